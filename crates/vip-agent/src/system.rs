//! What the agent needs of the system besides addresses: privileges, and one setting.

use crate::error::AgentError;

/// Bits of the capability sets (capabilities(7)).
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

/// Checks that the agent may do what it is for.
///
/// # Errors
/// [`AgentError::Privileges`] names what is missing.
pub fn check_privileges() -> Result<(), AgentError> {
    // Unreadable: go on and let the first refusal speak.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match missing(&status) {
        Some(what) => Err(AgentError::Privileges(what)),
        None => Ok(()),
    }
}

fn missing(status: &str) -> Option<&'static str> {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(line.trim(), 16).ok()?;
    let has = |bit: u32| effective & (1 << bit) != 0;
    match (has(NET_ADMIN), has(NET_RAW)) {
        (true, true) => None,
        (false, true) => Some("CAP_NET_ADMIN"),
        (true, false) => Some("CAP_NET_RAW"),
        (false, false) => Some("CAP_NET_ADMIN and CAP_NET_RAW"),
    }
}

/// Lets the other addresses of an interface stay when a VIP leaves that happened to be the
/// first of its subnet; the kernel's default would remove them all, the server's own one
/// included. Best effort: systemd sets the same on its hosts (sysctl.d, 50-default.conf).
///
/// Source: `promote_secondaries`, ip-sysctl of the kernel.
pub fn promote_secondaries(interface: &str) {
    let setting = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
    if let Err(error) = std::fs::write(&setting, "1") {
        tracing::debug!("cannot set {setting}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        for (set, expected) in [
            ("000001ffffffffff", None),
            ("0000000000003000", None),
            ("0000000000002000", Some("CAP_NET_ADMIN")),
            ("0000000000001000", Some("CAP_NET_RAW")),
            ("0000000000000000", Some("CAP_NET_ADMIN and CAP_NET_RAW")),
            ("nonsense", None),
        ] {
            let status = format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{set}\nCapBnd:\t0\n");
            assert_eq!(missing(&status), expected, "{set}");
        }
    }
}
