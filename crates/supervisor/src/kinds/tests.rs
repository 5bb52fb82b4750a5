use std::path::PathBuf;

use haarb_model::Span;

use super::*;

fn service(kind: ServiceKind) -> Service {
    Service {
        name: "s".into(),
        kind,
        start_timeout: Span::from_secs(1),
        stop_timeout: Span::from_secs(1),
        check_interval: Span::from_secs(1),
        check_timeout: Span::from_secs(5),
        restarts: 3,
        restart_window: Span::from_secs(60),
    }
}

fn exec(program: &str) -> String {
    exec::why_not_startable(&[program.to_owned()])
}

fn script(start: &str) -> String {
    script::why_not_startable(start, "true")
}

#[test]
fn status_codes_mean_what_lsb_says() {
    let means = script::means("a", "b", "c");
    let verdict = |answer: &Answer| verdict(&means, answer);
    let exited = |code, output: &str| {
        verdict(&Answer::Exited {
            code,
            output: output.into(),
        })
    };
    assert_eq!(exited(0, "whatever"), Verdict::Runs);
    for code in [1, 2, 3] {
        assert_eq!(exited(code, ""), Verdict::Stopped, "{code}");
    }
    for answer in [exited(4, ""), exited(127, ""), exited(255, "")] {
        assert!(matches!(answer, Verdict::Unclear(_)), "{answer:?}");
    }
    assert_eq!(
        exited(4, "no route\nsecond line"),
        Verdict::Unclear("its status command exited with status 4: no route".into())
    );
    for answer in [
        Answer::Killed(9),
        Answer::TimedOut,
        Answer::NotRun("x".into()),
    ] {
        assert!(
            matches!(verdict(&answer), Verdict::Unclear(_)),
            "{answer:?}"
        );
    }
}

#[test]
fn a_program_must_be_an_executable_file() {
    assert_eq!(exec("/bin/sh"), "");
    assert_eq!(exec("/etc/passwd"), "/etc/passwd is not executable");
    assert_eq!(exec("/etc"), "/etc is not a file");
    assert!(exec("/no/such").starts_with("/no/such: No such file"));
    assert_eq!(exec("a\0b"), "an argument contains a NUL character");
    assert_eq!(exec::why_not_startable(&[]), "names no program");
}

#[test]
fn of_a_script_the_first_plain_word_must_exist() {
    for good in [
        "/bin/sh -c true",
        "sh x",
        "A=1 B=2 sh x",
        "if true; then false; fi",
        "$HOME/x start",
        "(cd /; x)",
        "",
    ] {
        assert_eq!(script(good), "", "{good:?}");
    }
    assert_eq!(script("no-such-word start"), "no-such-word is not in PATH");
    assert!(script("A=1 /no/such start").starts_with("/no/such: "));
    assert!(script::why_not_startable("true", "/no/such stop").starts_with("/no/such: "));
}

#[test]
fn a_unit_must_be_loaded() {
    assert_eq!(systemd::load_state("a.service", "loaded"), "");
    for state in ["masked", "not-found", "bad-setting", ""] {
        assert!(
            systemd::load_state("a.service", state).contains("a.service"),
            "{state}"
        );
    }
}

#[tokio::test]
async fn kinds_that_are_not_there_say_so() {
    let init = service(ServiceKind::Init {
        path: PathBuf::from("/etc/init.d/x"),
    });
    assert_eq!(
        why_not_startable(&init).await,
        "kind init is not there yet; use exec, script or systemd"
    );
    assert_eq!(means(&init).run, Run::Program(vec![]));
    let ocf = service(ServiceKind::Ocf {
        agent: "heartbeat:nginx".into(),
        parameters: std::collections::BTreeMap::new(),
    });
    assert!(why_not_startable(&ocf).await.starts_with("kind ocf"));
}
