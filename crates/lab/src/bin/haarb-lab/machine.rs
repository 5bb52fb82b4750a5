//! `haarb-lab check`: can this machine and this user run the lab?

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use haarb_lab::{check, sandbox};

/// Prints what there is and what is missing; the status tells whether the lab can run.
pub(crate) fn check(bin_dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let sandbox = sandbox::enter(&[bin_dir]);
    let findings = check::look(&sandbox, bin_dir);
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        for finding in &findings {
            let word = match (finding.there, finding.needed) {
                (true, _) => "ok",
                (false, true) => "MISSING",
                (false, false) => "without",
            };
            writeln!(out, "{word:<8} {:<20} {}", finding.what, finding.text)?;
        }
    }
    let usable = findings
        .iter()
        .all(|finding| finding.there || !finding.needed);
    Ok(if usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
