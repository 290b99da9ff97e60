//! A document as a service may answer it: small, but one that every reader opens.

/// A page with this text on it.
pub fn pdf(text: &str) -> Vec<u8> {
    let text: String = text.chars().filter(|c| !matches!(c, '(' | ')' | '\\')).collect();
    let content = format!("BT /F1 24 Tf 72 720 Td ({text}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 \
         << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
    ];
    let (mut document, mut table) = ("%PDF-1.4\n".to_owned(), String::new());
    for (number, object) in (1..).zip(objects) {
        table += &format!("{:010} 00000 n \n", document.len());
        document += &format!("{number} 0 obj\n{object}\nendobj\n");
    }
    let start = document.len();
    document += &format!("xref\n0 5\n0000000000 65535 f \n{table}trailer << /Size 5 /Root 1 0 R >>\n");
    document += &format!("startxref\n{start}\n%%EOF\n");
    document.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_points_at_the_objects() {
        let document = String::from_utf8(pdf("Invoice (1)")).unwrap();
        let (_, table) = document.split_once("65535 f \n").unwrap();
        for (number, line) in (1..=4).zip(table.lines()) {
            let at: usize = line[..10].parse().unwrap();
            assert!(document[at..].starts_with(&format!("{number} 0 obj")), "object {number}");
        }
        assert!(document.contains("(Invoice 1)"));
    }
}
