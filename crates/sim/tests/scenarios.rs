//! Every file in `scenarios/` gives what it says. `REWRITE=1 cargo test -p haarb-sim` writes
//! them anew; the diff is the review.

use std::path::PathBuf;

#[test]
fn every_scenario_gives_what_its_file_says() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .expect("the directory of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 12, "only {} scenarios found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable scenario");
        let seen = haarb_sim::scenario::replay(&text);
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        assert!(text.starts_with("# "), "{name} does not say what it is for");
        for bad in ["WRONG", "error:"] {
            assert!(!seen.contains(bad), "{name}:\n{seen}");
        }
        if seen == text {
            continue;
        }
        if std::env::var_os("REWRITE").is_some() {
            std::fs::write(&file, seen).expect("write the scenario");
        } else {
            wrong.push(format!("---- {name} gives now:\n{seen}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nREWRITE=1 writes them anew once the cause is understood",
        wrong.join("\n")
    );
}
