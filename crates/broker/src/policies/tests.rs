use leveret_wire::FieldValue;

use super::*;

fn table(pairs: &[(&str, FieldValue)]) -> FieldTable {
    FieldTable(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

fn text(text: &str) -> FieldValue {
    FieldValue::LongString(text.as_bytes().to_vec())
}

fn number(number: i32) -> FieldValue {
    FieldValue::I32(number)
}

fn policy(author: Author, name: &str, priority: i64, pairs: &[(&str, FieldValue)]) -> Arc<Policy> {
    Arc::new(Policy::new(author, name, "^q", "all", priority, table(pairs)).unwrap())
}

#[test]
fn what_makes_no_sense_is_refused_in_rabbitmqs_words() {
    let check = |author, pattern: &str, apply_to: &str, pairs: &[(&str, FieldValue)], expected: &str| {
        let error = Policy::new(author, "p", pattern, apply_to, 0, table(pairs)).unwrap_err();
        assert_eq!(error.to_string(), format!("Validation failed\n\n{expected}\n"));
    };
    let one = [("max-length", number(1))];
    check(Author::User, "", "all", &[], "no policy provided");
    let unknown = [("nonsense", number(2)), ("max-length", number(1)), ("worse", text("w"))];
    let listed = "[{<<\"nonsense\">>,2},{<<\"worse\">>,<<\"w\">>}] are not recognised policy settings";
    check(Author::User, "", "all", &unknown, listed);
    let both = [("nonsense", number(2)), ("max-length", number(-1))];
    check(Author::User, "", "all", &both, "-1 is not a valid maximum length");
    let bad_pattern = "pattern should be regular expression but is invalid: unclosed group";
    check(Author::User, "(", "all", &one, bad_pattern);
    let bad_kind = "apply-to 'foo' unrecognised; should be one of: 'queues', 'classic_queues',  \
                    'quorum_queues', 'streams', 'exchanges', or 'all'";
    check(Author::User, "", "foo", &one, bad_kind);
    let not_his = "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings";
    check(Author::Operator, "", "all", &[("dead-letter-exchange", text("x"))], not_his);
}

#[test]
fn the_highest_that_fits_is_in_force() {
    let classic = Subject::Queue(QueueKind::Classic);
    let check = |set: &PolicySet, subject, name: &str, expected: Option<&str>| {
        let found = set.in_force(subject, name).policy;
        assert_eq!(found.as_ref().map(|policy| policy.name.as_str()), expected, "{subject:?} {name}");
    };
    let mut set = PolicySet::default();
    let queues = |name, priority, apply_to, pairs: &[(&str, FieldValue)]| {
        Arc::new(Policy::new(Author::User, name, "^q", apply_to, priority, table(pairs)).unwrap())
    };
    set.put(Author::User, queues("b", 0, "queues", &[("max-length", number(1))]));
    set.put(Author::User, queues("a", 0, "queues", &[("max-length", number(2))]));
    check(&set, classic, "q1", Some("a"));
    check(&set, classic, "other", None);
    check(&set, Subject::Exchange, "q1", None);
    set.put(Author::User, queues("c", 7, "quorum_queues", &[("max-length", number(3))]));
    check(&set, classic, "q1", Some("a"));
    check(&set, Subject::Queue(QueueKind::Quorum), "q1", Some("c"));
    set.put(Author::User, queues("d", 8, "all", &[("max-age", text("1D")), ("max-length-bytes", number(3))]));
    check(&set, classic, "q1", Some("a"));
    check(&set, Subject::Queue(QueueKind::Stream), "q1", Some("d"));
    check(&set, Subject::Exchange, "q1", Some("d"));
    assert!(set.remove(Author::User, "a") && !set.remove(Author::User, "a"));
    check(&set, classic, "q1", Some("b"));
}

#[test]
fn an_operators_limit_cannot_be_lifted() {
    let check =
        |mine: &[(&str, FieldValue)], operators: &[(&str, FieldValue)], expected: &[(&str, FieldValue)]| {
            let in_force = InForce {
                policy: Some(policy(Author::User, "u", 0, mine)),
                operator_policy: Some(policy(Author::Operator, "o", 0, operators)),
            };
            assert_eq!(in_force.definition(), table(expected));
        };
    check(&[("max-length", number(5))], &[("max-length", number(9))], &[("max-length", number(5))]);
    check(&[("max-length", number(9))], &[("max-length", number(5))], &[("max-length", number(5))]);
    check(
        &[("overflow", text("drop-head"))],
        &[("overflow", text("reject-publish")), ("expires", number(1))],
        &[("overflow", text("reject-publish")), ("expires", number(1))],
    );
}

#[test]
fn an_argument_beats_a_policy_unless_it_is_a_higher_limit() {
    let check = |pairs: &[(&str, FieldValue)],
                 arguments: &[(&str, FieldValue)],
                 expected: &[(&str, FieldValue)]| {
        let in_force = InForce { policy: Some(policy(Author::User, "u", 0, pairs)), operator_policy: None };
        let arguments = in_force.queue_arguments(QueueKind::Classic, &table(arguments));
        assert_eq!(arguments, table(expected));
    };
    let exchange = |name| [("x-dead-letter-exchange", text(name))];
    check(&[("dead-letter-exchange", text("mine"))], &exchange("given"), &exchange("given"));
    check(&[("dead-letter-exchange", text("mine"))], &[], &exchange("mine"));
    check(&[("max-length", number(2))], &[("x-max-length", number(5))], &[("x-max-length", number(2))]);
    check(&[("max-length", number(9))], &[("x-max-length", number(5))], &[("x-max-length", number(5))]);
    check(&[("alternate-exchange", text("a"))], &[], &[]);
}

#[test]
fn an_exchange_has_its_alternate_from_either() {
    let in_force = InForce {
        policy: Some(policy(Author::User, "u", 0, &[("alternate-exchange", text("a"))])),
        operator_policy: None,
    };
    assert_eq!(in_force.alternate_exchange(&FieldTable::default()).as_deref(), Some("a"));
    let given = table(&[("alternate-exchange", text("b"))]);
    assert_eq!(in_force.alternate_exchange(&given).as_deref(), Some("b"));
    assert_eq!(InForce::default().alternate_exchange(&FieldTable::default()), None);
}
