use super::*;

fn file(dir: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
    let path = dir.path().join("cluster.key");
    fs::write(&path, content).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
    path
}

#[test]
fn a_generated_key_loads_and_belongs_to_its_owner_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.key");
    let made = ClusterKey::generate(&path).expect("a key");
    let mode = fs::metadata(&path).expect("a file").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    assert_eq!(fs::read(&path).expect("text").len(), 65);
    let loaded = ClusterKey::load(&path).expect("the same key");
    assert_eq!(made.derive("test"), loaded.derive("test"));
}

#[test]
fn generate_never_replaces_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(&dir, b"precious", 0o600);
    let error = ClusterKey::generate(&path).expect_err("it exists");
    assert!(matches!(error, KeyError::Exists { .. }), "{error}");
    assert_eq!(fs::read(&path).expect("text"), b"precious");
}

#[test]
fn what_is_no_key_is_refused_with_one_line_that_names_the_file() {
    let good = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
    let dir = tempfile::tempdir().expect("a directory");
    for (content, mode, word) in [
        (good.clone().into_bytes(), 0o640, "chmod 600"),
        (good.clone().into_bytes(), 0o604, "mode 0604"),
        (b"".to_vec(), 0o600, "empty"),
        (good[..63].into(), 0o600, "63 characters"),
        (format!("{good}\n\n").into(), 0o600, "65 characters"),
        (format!(" {}", &good[1..]).into(), 0o600, "not hexadecimal"),
        (vec![0xff; 64], 0o600, "not hexadecimal"),
        (vec![b'a'; 5000], 0o600, "too long"),
    ] {
        let path = file(&dir, &content, mode);
        let text = ClusterKey::load(&path).expect_err(word).to_string();
        assert!(text.contains(word), "{text}");
        assert!(text.starts_with(&path.display().to_string()), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            !text.contains(&good[..8]),
            "the key is in the error: {text}"
        );
    }
    let path = file(&dir, good.as_bytes(), 0o400);
    assert!(
        ClusterKey::load(&path).is_ok(),
        "a line end is not demanded"
    );
}

#[test]
fn what_is_not_there_or_not_a_file_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let absent = ClusterKey::load(&dir.path().join("absent")).expect_err("nothing there");
    assert!(
        absent.to_string().contains("haarb key generate"),
        "{absent}"
    );
    let directory = ClusterKey::load(dir.path()).expect_err("a directory");
    assert!(directory.to_string().contains("not a file"), "{directory}");
}

#[test]
fn every_use_has_its_own_key_and_no_print_shows_it() {
    let key = ClusterKey::from_bytes([0x5a; 32]);
    assert_ne!(key.derive("one"), key.derive("other"));
    assert_ne!(key.derive("one"), [0x5a; 32]);
    assert_eq!(format!("{key:?}"), "ClusterKey(..)");
}

#[test]
fn a_credential_may_have_the_mask_of_an_access_control_list() {
    assert!(!is_exposed(0o440, true) && !is_exposed(0o400, true));
    assert!(is_exposed(0o440, false) && is_exposed(0o460, true) && is_exposed(0o444, true));
    assert!(!is_credential(Path::new("/etc/haarb/cluster.key")));
}
