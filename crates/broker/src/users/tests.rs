use super::*;

const LOCAL: bool = true;
const REMOTE: bool = false;

fn public(password: &str) -> PasswordHash {
    PasswordHash::new_public(password.as_bytes()).unwrap()
}

fn users_with_guest() -> Users {
    let users = Users::default();
    users.add_guest().unwrap();
    users
}

fn check_login(users: &Users, name: &str, password: &str, loopback: bool, refused: Option<LoginRefused>) {
    for _ in 0..2 {
        let answer = users.authenticate(name, password.as_bytes(), loopback);
        assert_eq!(answer.as_ref().err(), refused.as_ref(), "{name} {password} loopback: {loopback}");
        assert!(answer.is_err() || answer.is_ok_and(|user| user.name == name));
    }
}

#[test]
fn guest_logs_in_from_this_machine_only() {
    let users = users_with_guest();
    check_login(&users, "guest", "guest", LOCAL, None);
    check_login(&users, "guest", "guest", REMOTE, Some(LoginRefused::NotFromLoopback));
    check_login(&users, "guest", "wrong", REMOTE, Some(LoginRefused::WrongPassword));
    check_login(&users, "guest", "", LOCAL, Some(LoginRefused::EmptyPassword));
    check_login(&users, "nobody", "guest", LOCAL, Some(LoginRefused::UnknownUser));
    check_login(&users, "nobody", "", LOCAL, Some(LoginRefused::EmptyPassword));
    users.set_loopback_only("guest", false).unwrap();
    check_login(&users, "guest", "guest", REMOTE, None);
    assert!(users.add_guest().is_err());
    let guest = users.find("guest").unwrap();
    assert!(guest.has_tag("administrator") && guest.allows("/", Operation::Configure, "q"));
}

#[test]
fn a_user_without_a_password_cannot_use_one() {
    let users = Users::default();
    users.add("certificate", PasswordHash::absent(), Vec::new()).unwrap();
    check_login(&users, "certificate", "", LOCAL, Some(LoginRefused::EmptyPassword));
    check_login(&users, "certificate", "x", LOCAL, Some(LoginRefused::WrongPassword));
}

#[test]
fn a_right_password_is_remembered_until_the_user_changes() {
    let users = users_with_guest();
    let quickly = |password: &[u8]| users.authenticate_quickly("guest", password, LOCAL);
    assert_eq!(quickly(b"guest"), None);
    users.authenticate("guest", b"guest", LOCAL).unwrap();
    assert!(quickly(b"guest").is_some_and(|answer| answer.is_ok()));
    assert_eq!(quickly(b"wrong"), None);
    users.set_password("guest", public("new")).unwrap();
    assert_eq!(quickly(b"guest"), None);
    check_login(&users, "guest", "guest", LOCAL, Some(LoginRefused::WrongPassword));
    check_login(&users, "guest", "new", LOCAL, None);
    assert!(users.delete("guest"));
    assert_eq!(quickly(b"new"), None);
    check_login(&users, "guest", "new", LOCAL, Some(LoginRefused::UnknownUser));
}

#[test]
fn every_change_raises_the_version_and_is_seen_by_name_only() {
    let users = users_with_guest();
    let snapshot = users.find("guest").unwrap();
    let mut version = users.version();
    let mut raised = || {
        let is_raised = users.version() > version;
        version = users.version();
        is_raised
    };
    users.set_tags("guest", vec!["management".into()]).unwrap();
    assert!(raised());
    users.clear_permissions("guest", "/").unwrap();
    assert!(raised());
    users.set_topic_permissions("guest", "/", "amq.topic", "^a", "^b").unwrap();
    assert!(raised());
    users.set_password("guest", public("x")).unwrap();
    assert!(raised());
    users.add("other", public("x"), Vec::new()).unwrap();
    assert!(raised());
    users.delete("other");
    assert!(raised());
    assert!(!users.delete("other") && !raised());
    assert!(snapshot.permissions("/").is_some() && snapshot.has_tag("administrator"));
    let now = users.find("guest").unwrap();
    assert!(now.permissions("/").is_none() && now.has_tag("management"));
}

#[test]
fn topic_permissions_restrict_where_they_are_set() {
    let users = users_with_guest();
    let check = |vhost: &str, exchange: &str, operation: Operation, key: &str, expected: bool| {
        let guest = users.find("guest").unwrap();
        assert_eq!(guest.allows_topic(vhost, exchange, operation, key), expected, "{vhost} {exchange} {key}");
    };
    check("/", "amq.topic", Operation::Write, "x", true);
    users.set_topic_permissions("guest", "/", "amq.topic", "^{username}\\.", "").unwrap();
    check("/", "amq.topic", Operation::Write, "x", false);
    check("/", "amq.topic", Operation::Write, "guest.x", true);
    check("/", "amq.topic", Operation::Read, "guest.x", false);
    check("/", "other", Operation::Write, "x", true);
    check("v", "amq.topic", Operation::Write, "x", true);
    users.clear_topic_permissions("guest", "/", Some("other")).unwrap();
    check("/", "amq.topic", Operation::Write, "x", false);
    users.clear_topic_permissions("guest", "/", None).unwrap();
    check("/", "amq.topic", Operation::Write, "x", true);
}

#[test]
fn a_deleted_virtual_host_takes_its_permissions_along() {
    let users = users_with_guest();
    users.add("a", public("x"), Vec::new()).unwrap();
    users.set_permissions("a", "v", Permissions::all()).unwrap();
    users.set_topic_permissions("a", "v", "t", "", "").unwrap();
    assert_eq!(users.forget_vhost("v"), ["a"]);
    let a = users.find("a").unwrap();
    assert_eq!((a.all_permissions().count(), a.all_topic_permissions().count()), (0, 0));
    assert_eq!(users.forget_vhost("v"), Vec::<String>::new());
    assert!(users.find("guest").unwrap().permissions("/").is_some());
}

#[test]
fn unusable_changes_are_refused() {
    let users = users_with_guest();
    let add = |name: &str, tags: Vec<String>| users.add(name, public("x"), tags);
    assert_eq!(add("guest", Vec::new()), Err(UserError::Exists("guest".into())));
    assert_eq!(add("", Vec::new()), Err(UserError::BadName));
    assert_eq!(add(&"n".repeat(256), Vec::new()), Err(UserError::BadName));
    assert_eq!(add("n", vec!["t".into(); 33]), Err(UserError::BadTags));
    assert_eq!(users.set_tags("guest", vec!["t".repeat(256)]), Err(UserError::BadTags));
    assert_eq!(users.set_tags("n", Vec::new()), Err(UserError::Unknown("n".into())));
    assert_eq!(users.clear_permissions("n", "/").unwrap_err().to_string(), "no user 'n'");
    let bad_pattern = users.set_topic_permissions("guest", "/", "t", "(", "");
    assert!(matches!(bad_pattern, Err(UserError::Pattern(_))));
    assert_eq!(users.list().iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["guest"]);
}

#[test]
fn users_survive_as_records() {
    let users = users_with_guest();
    let record = users.encode("guest").unwrap();
    let restored = Users::default();
    restored.restore("guest", &record).unwrap();
    assert_eq!(restored.find("guest"), users.find("guest"));
    check_login(&restored, "guest", "guest", LOCAL, None);
    assert_eq!(restored.restore("guest", &record[1..]), None);
    check_login(&restored, "guest", "guest", LOCAL, None);
    assert_eq!(users.encode("nobody"), None);
}

#[test]
fn the_client_learns_nothing_from_a_refusal() {
    assert_eq!(
        LoginRefused::reply_text("PLAIN"),
        "Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
    );
}

#[test]
fn a_right_password_with_an_outdated_hash_is_hashed_anew_once() {
    let users = Users::default();
    let imported = PasswordHash::import(
        "mLFOUUfWvSJaZWQZAnKmqlBLckWCelXDQc+sl1ZKKm8WRL2s",
        "rabbit_password_hashing_sha256",
    );
    users.add("u", imported.unwrap(), Vec::new()).unwrap();
    let version = users.version();
    assert!(!users.rehash("u", b"test12"), "nobody has shown the right password");
    check_login(&users, "u", "test12", LOCAL, None);
    assert!(!users.rehash("u", b"wrong"));
    assert!(users.rehash("u", b"test12") && !users.rehash("u", b"test12"));
    assert_eq!(users.password_hash("u").unwrap().export().1, "argon2id");
    assert_eq!(users.version(), version, "nobody has to look the user up again");
    assert!(users.authenticate_quickly("u", b"test12", LOCAL).is_some(), "still remembered");
    let restored = Users::default();
    restored.restore("u", &users.encode("u").unwrap()).unwrap();
    check_login(&restored, "u", "test12", LOCAL, None);
    let guests = users_with_guest();
    check_login(&guests, "guest", "guest", LOCAL, None);
    assert!(!guests.rehash("guest", b"guest"), "everyone knows it anyway");
}
