//! The spellings of rabbitmqctl, so that scripts go on: `list_queues name messages` is
//! `queues list --columns name,messages`.
//!
//! They are translated before the command line is parsed, and appear in no help.

use std::ffi::OsString;

/// An old command and its new words.
struct Spelling {
    old: &'static str,
    new: &'static [&'static str],
    operands: Operands,
}

/// What stands behind a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operands {
    /// The same as behind the new words.
    Same,
    /// Names of columns. These commands are about one virtual host, `/` unless another is named.
    Columns(&'static str),
    /// Names of columns, of all virtual hosts.
    ColumnsOfAll(&'static str),
    /// A user, and perhaps a password.
    Credentials,
    /// Something that is needed, and a reason that the API does not take.
    Reason { needed: usize },
}

use Operands::{Columns, ColumnsOfAll, Credentials, Reason, Same};

#[rustfmt::skip]
const SPELLINGS: &[Spelling] = &[
    spelling("list_queues", &["queues", "list"], Columns("name,messages")),
    spelling("list_exchanges", &["exchanges", "list"], Columns("name,type")),
    spelling("list_bindings", &["bindings", "list"], Columns("source,destination_type,destination,routing_key,arguments")),
    spelling("list_consumers", &["consumers", "list"], Columns("queue.name,channel_details.name,consumer_tag,ack_required,prefetch_count,active,arguments")),
    spelling("list_permissions", &["permissions", "list"], Columns("user,configure,write,read")),
    spelling("list_topic_permissions", &["topic-permissions", "list"], Columns("user,exchange,write,read")),
    spelling("list_policies", &["policies", "list"], Columns("vhost,name,pattern,apply-to,definition,priority")),
    spelling("list_operator_policies", &["operator-policies", "list"], Columns("vhost,name,pattern,apply-to,definition,priority")),
    spelling("list_connections", &["connections", "list"], ColumnsOfAll("user,peer_host,peer_port,state")),
    spelling("list_channels", &["channels", "list"], ColumnsOfAll("name,user,consumer_count,messages_unacknowledged")),
    spelling("list_users", &["users", "list"], Same),
    spelling("list_vhosts", &["vhosts", "list"], ColumnsOfAll("name")),
    spelling("list_user_permissions", &["permissions", "list", "--user"], Same),
    spelling("list_user_topic_permissions", &["topic-permissions", "list", "--user"], Same),
    spelling("list_parameters", &["parameters", "list"], Same),
    spelling("list_global_parameters", &["global-parameters", "list"], Same),
    spelling("list_vhost_limits", &["limits", "list"], Same),
    spelling("list_user_limits", &["limits", "list", "--users"], Same),
    spelling("add_user", &["users", "add"], Credentials),
    spelling("change_password", &["users", "password"], Credentials),
    spelling("clear_password", &["users", "password", "--no-password"], Same),
    spelling("delete_user", &["users", "delete"], Same),
    spelling("set_user_tags", &["users", "tags"], Same),
    spelling("add_vhost", &["vhosts", "add"], Same),
    spelling("delete_vhost", &["vhosts", "delete"], Same),
    spelling("set_permissions", &["permissions", "set"], Same),
    spelling("clear_permissions", &["permissions", "clear"], Same),
    spelling("set_topic_permissions", &["topic-permissions", "set"], Same),
    spelling("clear_topic_permissions", &["topic-permissions", "clear"], Same),
    spelling("set_policy", &["policies", "set"], Same),
    spelling("clear_policy", &["policies", "delete"], Same),
    spelling("set_operator_policy", &["operator-policies", "set"], Same),
    spelling("clear_operator_policy", &["operator-policies", "delete"], Same),
    spelling("set_parameter", &["parameters", "set"], Same),
    spelling("clear_parameter", &["parameters", "clear"], Same),
    spelling("set_global_parameter", &["global-parameters", "set"], Same),
    spelling("clear_global_parameter", &["global-parameters", "clear"], Same),
    spelling("delete_queue", &["queues", "delete"], Same),
    spelling("purge_queue", &["queues", "purge"], Same),
    spelling("close_all_connections", &["connections", "close", "--all"], Reason { needed: 0 }),
    spelling("close_all_user_connections", &["connections", "close", "--user"], Reason { needed: 1 }),
    spelling("export_definitions", &["definitions", "export"], Same),
    spelling("import_definitions", &["definitions", "import"], Same),
    spelling("shovel_status", &["shovels", "list"], Same),
    spelling("restart_shovel", &["shovels", "restart"], Same),
    spelling("delete_shovel", &["shovels", "delete"], Same),
    spelling("federation_status", &["federation", "links"], Same),
    spelling("check_alarms", &["health", "alarms"], Same),
    spelling("check_local_alarms", &["health", "local-alarms"], Same),
    spelling("check_virtual_hosts", &["health", "virtual-hosts"], Same),
];

const fn spelling(old: &'static str, new: &'static [&'static str], operands: Operands) -> Spelling {
    Spelling { old, new, operands }
}

/// Columns that rabbitmqctl calls otherwise.
const RENAMED: [(&str, &str); 5] = [
    ("source_name", "source"),
    ("destination_name", "destination"),
    ("destination_kind", "destination_type"),
    ("queue_name", "queue.name"),
    ("channel_pid", "channel_details.name"),
];

/// Flags of both that are followed by a value.
const VALUED: [&str; 7] = ["-p", "--vhost", "--timeout", "--management", "--url", "--sort", "--user"];

/// The command line in the words of this program. `is_noun` knows those: behind one of them an old command is a name.
pub(crate) fn modernize(line: Vec<OsString>, is_noun: fn(&str) -> bool) -> Vec<OsString> {
    if line.get(1).is_none_or(|command| command != "ctl") {
        return line;
    }
    let spelling_of = |word: &OsString| SPELLINGS.iter().find(|spelling| *word == *spelling.old);
    let first =
        line.iter().position(|word| spelling_of(word).is_some() || word.to_str().is_some_and(is_noun));
    let found = first.and_then(|at| Some((at, spelling_of(&line[at])?)));
    // Names may be any octets to the shell; to AMQP they are UTF-8, and clap says so.
    let Some((at, spelling, rest)) =
        found.and_then(|(at, spelling)| Some((at, spelling, texts(&line[at + 1..])?)))
    else {
        return line;
    };
    let mut modern = line[..at].to_vec();
    modern.extend(spelling.new.iter().map(OsString::from));
    let has_vhost = line.iter().any(|word| word.to_str().is_some_and(is_vhost_flag));
    modern.extend(operands(spelling.operands, rest, has_vhost).into_iter().map(OsString::from));
    modern
}

fn is_vhost_flag(word: &str) -> bool {
    word.starts_with("-p") || word.starts_with("--vhost")
}

fn texts(words: &[OsString]) -> Option<Vec<String>> {
    words.iter().map(|word| word.clone().into_string().ok()).collect()
}

fn operands(kind: Operands, rest: Vec<String>, has_vhost: bool) -> Vec<String> {
    let (mut flags, words) = split(rest);
    let columns = |default: &str| match words.as_slice() {
        [] => default.to_owned(),
        words => words.iter().map(|word| renamed(word)).collect::<Vec<_>>().join(","),
    };
    match kind {
        // Of some, the last new word is a flag whose value comes first.
        Same => flags = words.into_iter().chain(flags).collect(),
        ColumnsOfAll(default) => flags.extend(["--columns".to_owned(), columns(default)]),
        Columns(default) => {
            flags.extend(["--columns".to_owned(), columns(default)]);
            if !has_vhost {
                flags.extend(["--vhost".to_owned(), "/".to_owned()]);
            }
        }
        Credentials => match words.as_slice() {
            [user, password] => flags.extend([user.clone(), format!("--password={password}")]),
            _ => flags.extend(words),
        },
        Reason { needed } => flags = words.into_iter().take(needed).chain(flags).collect(),
    }
    flags
}

/// Flags, in this program's spelling, and what is none.
fn split(rest: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut flags, mut words) = (Vec::new(), Vec::new());
    let mut rest = rest.into_iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-s" | "--silent" => flags.extend(["--quiet".to_owned(), "--no-header".to_owned()]),
            "--formatter=json" => flags.push("--json".to_owned()),
            flag if VALUED.contains(&flag) => flags.extend([word].into_iter().chain(rest.next())),
            flag if flag.starts_with('-') && flag.len() > 1 => flags.push(word),
            _ => words.push(word),
        }
    }
    (flags, words)
}

fn renamed(column: &str) -> String {
    let new = RENAMED.iter().find(|(old, _)| *old == column).map(|(_, new)| *new);
    new.unwrap_or(column).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str) {
        let line = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let is_noun = |word: &str| word == "queues";
        assert_eq!(
            modernize(line(&format!("leveret {old}")), is_noun),
            line(&format!("leveret {new}")),
            "{old}"
        );
    }

    #[test]
    fn old_commands_have_new_words() {
        check("ctl list_queues", "ctl queues list --columns name,messages --vhost /");
        check("ctl list_queues -p v -q name consumers", "ctl queues list -p v -q --columns name,consumers");
        check("ctl -p v list_users -s", "ctl -p v users list --quiet --no-header");
        check("ctl list_bindings source_name", "ctl bindings list --columns source --vhost /");
        check("ctl list_connections user", "ctl connections list --columns user");
        check("ctl list_user_permissions bob -q", "ctl permissions list --user bob -q");
        check("ctl -p v list_queues", "ctl -p v queues list --columns name,messages");
        check("ctl add_user bob secret", "ctl users add bob --password=secret");
        check("ctl add_user bob", "ctl users add bob");
        check("ctl clear_password bob", "ctl users password --no-password bob");
        check("ctl set_permissions -p v bob .* .* ^$", "ctl permissions set bob .* .* ^$ -p v");
        check("ctl close_all_connections upgrade", "ctl connections close --all");
        check("ctl close_all_user_connections bob upgrade", "ctl connections close --user bob");
        check("ctl list_user_permissions bob", "ctl permissions list --user bob");
    }

    #[test]
    fn everything_else_stays() {
        check("call list_queues", "call list_queues");
        check("ctl queues show list_queues", "ctl queues show list_queues");
        check("ctl status", "ctl status");
    }
}
