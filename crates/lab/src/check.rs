//! Can this machine and this user run the lab? Says what is missing and what to do about it.

use std::path::Path;

use crate::{
    sandbox::{Sandbox, SandboxError},
    setup,
};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// Without it the lab does not run; otherwise it runs with less.
    pub needed: bool,
    /// It is there.
    pub there: bool,
    /// What was found, and what to do when it is missing.
    pub text: String,
}

/// Looks at everything. `sandbox` is what [`crate::sandbox::enter`] returned.
#[must_use]
pub fn look(sandbox: &Result<Sandbox, SandboxError>, bin_dir: &Path) -> Vec<Finding> {
    let finding = |what, needed, there, text| Finding {
        what,
        needed,
        there,
        text,
    };
    let mut all = vec![match sandbox {
        Ok(sandbox) if sandbox.privileged => finding(
            "namespaces",
            true,
            true,
            "as root: user, network, process and mount namespaces work".into(),
        ),
        Ok(_) => finding(
            "namespaces",
            true,
            true,
            "as an ordinary user, in a user namespace".into(),
        ),
        Err(error) => finding("namespaces", true, false, error.to_string()),
    }];
    if let Err(error) = setup::check_binaries(bin_dir) {
        all.push(finding("binaries", true, false, error.to_string()));
    } else {
        all.push(finding(
            "binaries",
            true,
            true,
            bin_dir.display().to_string(),
        ));
    }
    let realtime = crate::realtime::may_be_realtime();
    let text = if realtime {
        "the lab's client runs at real-time priority".into()
    } else {
        "not allowed: the lab's own timer may be late, which the results show as `stall`; as root it is allowed".into()
    };
    all.push(finding("real-time priority", false, realtime, text));
    let ipv6 = Path::new("/proc/sys/net/ipv6").is_dir();
    let text = if ipv6 {
        "yes".into()
    } else {
        "this kernel has none: IPv6 addresses are left out".into()
    };
    all.push(finding("IPv6", false, ipv6, text));
    all
}
