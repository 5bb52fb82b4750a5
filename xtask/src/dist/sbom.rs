//! The bill of materials (CycloneDX 1.5): every crate in the shipped programs, with its license and the
//! checksum of its source. It says what cargo says; nothing in it depends on the day or the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::cargo::{cargo, root};

/// The crates of the programs that are shipped.
const SHIPPED: [&str; 7] = [
    "haarb-cli",
    "haarb-arbiter",
    "haarb-link-watcher",
    "haarb-prober",
    "haarb-supervisor",
    "haarb-syncer",
    "haarb-vip-agent",
];

/// The document.
///
/// # Errors
/// cargo does not know the dependencies: the lock file is out of date.
pub(super) fn sbom() -> Result<String> {
    let output = cargo(&["metadata", "--format-version", "1", "--locked"])
        .args([
            "--filter-platform",
            &format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        ])
        .output()
        .context("cargo cannot be started")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let lock = fs::read_to_string(root().join("Cargo.lock")).context("Cargo.lock")?;
    let document = document(&metadata, &checksums(&lock));
    Ok(format!("{document:#}\n"))
}

fn document(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let mut wanted: Vec<&str> = packages
        .iter()
        .filter(|(_, package)| SHIPPED.iter().any(|name| package["name"] == *name))
        .map(|(id, _)| *id)
        .collect();
    let mut found = BTreeSet::new();
    while let Some(id) = wanted.pop() {
        if found.insert(id) {
            wanted.extend(nodes.get(id).into_iter().flat_map(|node| below(node)));
        }
    }
    let reference = |id: &str| {
        packages
            .get(id)
            .map_or_else(String::new, |package| purl(package))
    };
    let components: Vec<Value> = found
        .iter()
        .filter_map(|id| packages.get(id))
        .map(|package| component(package, checksums))
        .collect();
    let dependencies: Vec<Value> = found
        .iter()
        .filter_map(|id| nodes.get(id).map(|node| (id, node)))
        .map(|(id, node)| {
            let on: BTreeSet<String> = below(node).map(reference).collect();
            json!({ "ref": reference(id), "dependsOn": on })
        })
        .collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "name": "haarb",
            "version": env!("CARGO_PKG_VERSION"),
            "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        } },
        "components": components,
        "dependencies": dependencies,
    })
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(|item| Some((item["id"].as_str()?, item)))
        .collect()
}

/// What a crate takes to be built, tests apart.
fn below(node: &Value) -> impl Iterator<Item = &str> {
    let deps = node["deps"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let builds = |dep: &&Value| {
        let kinds = dep["dep_kinds"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        kinds.iter().any(|kind| kind["kind"] != "dev")
    };
    deps.iter()
        .filter(builds)
        .filter_map(|dep| dep["pkg"].as_str())
}

fn purl(package: &Value) -> String {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    format!("pkg:cargo/{}@{}", text("name"), text("version"))
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(package),
        "name": text("name"),
        "version": text("version"),
        "purl": purl(package),
    });
    if !text("license").is_empty() {
        // The slash of older crates means "or" (the Cargo book, "The manifest format").
        let expression = text("license").replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    let key = (text("name").to_owned(), text("version").to_owned());
    if let Some(checksum) = checksums.get(&key) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// The checksums of a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let start = format!("{key} = \"");
            let line = package.lines().find_map(|line| line.strip_prefix(&start));
            line.map(|rest| rest.trim_end_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) =
            (value("name"), value("version"), value("checksum"))
        {
            found.insert((name, version), sum);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_tests_take_is_left_out() {
        let metadata = json!({
            "packages": [
                { "id": "1", "name": "haarb-cli", "version": "0.1.0", "license": "MIT OR Apache-2.0" },
                { "id": "2", "name": "a", "version": "1.0.0", "license": "MIT/Apache-2.0" },
                { "id": "3", "name": "b", "version": "2.0.0", "license": null },
            ],
            "resolve": { "nodes": [
                { "id": "1", "deps": [
                    { "pkg": "2", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "3", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "2", "deps": [] },
                { "id": "3", "deps": [] },
            ] },
        });
        let lock =
            "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"x\"\nchecksum = \"abc\"\n";
        let document = document(&metadata, &checksums(lock));
        let components = document["components"].as_array().expect("components");
        let names: Vec<_> = components.iter().map(|c| &c["name"]).collect();
        assert_eq!(names, ["haarb-cli", "a"]);
        assert_eq!(
            components[1]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(components[1]["hashes"][0]["content"], "abc");
        assert_eq!(
            document["dependencies"][0]["dependsOn"],
            json!(["pkg:cargo/a@1.0.0"])
        );
    }

    #[test]
    fn the_bill_of_this_repository_has_its_programs_and_what_they_take() {
        let text = sbom().expect("a bill");
        for word in [
            "pkg:cargo/haarb-arbiter@",
            "pkg:cargo/tokio@",
            "\"alg\": \"SHA-256\"",
        ] {
            assert!(text.contains(word), "{word}");
        }
        assert!(
            !text.contains("pkg:cargo/proptest@"),
            "what only tests take"
        );
    }
}
