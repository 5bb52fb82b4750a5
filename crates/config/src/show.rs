//! The effective configuration as YAML, and its digest.
//!
//! The text is canonical: one configuration, one text; reading it back gives the same
//! configuration. That makes its hash the digest that servers compare. A key that is added
//! to the format later is written only where it differs from its default, so that servers
//! of two versions agree as long as nobody uses it.

use std::fmt::Write as _;

use haarb_model::{Prefer, Timing};

use crate::duration::exact;
use crate::timing::{KEYS, Slot, slot};
use crate::{
    Config, DeletionLimit, Network, Node, Reserve, ScrubRate, Service, ServiceKind, Watchdog,
};

impl Config {
    /// The effective configuration, defaults included, in the form of the file.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = format!("cluster: {}\n", scalar(&self.cluster));
        let _ = writeln!(out, "port: {}\nsync-port: {}", self.port, self.sync_port);
        timing(&mut out, self.profile.as_str(), self.timing);
        out.push_str("networks:\n");
        for n in &self.networks {
            network(&mut out, n);
        }
        out.push_str("nodes:\n");
        for n in &self.nodes {
            node(&mut out, n);
        }
        out.push_str("reserves:\n");
        for r in &self.reserves {
            reserve(&mut out, r);
        }
        if let Some(Watchdog { device, timeout }) = &self.watchdog {
            let device = scalar(&device.to_string_lossy());
            let timeout = exact(*timeout);
            let _ = writeln!(out, "watchdog: {{ device: {device}, timeout: {timeout} }}");
        }
        out
    }

    /// The digest of what [`Config::to_yaml`] says: the first eight bytes of its BLAKE3 hash.
    pub(crate) fn compute_digest(&self) -> u64 {
        let hash = blake3::hash(self.to_yaml().as_bytes());
        hash.as_bytes()
            .iter()
            .take(8)
            .fold(0, |digest, byte| digest << 8 | u64::from(*byte))
    }
}

fn timing(out: &mut String, profile: &str, mut timing: Timing) {
    let _ = writeln!(out, "timing:\n  profile: {profile}");
    for key in KEYS {
        let _ = match slot(&mut timing, key) {
            Some(Slot::Span(span)) => writeln!(out, "  {key}: {}", exact(*span)),
            Some(Slot::Count(count)) => writeln!(out, "  {key}: {count}"),
            None => Ok(()),
        };
    }
}

fn network(out: &mut String, network: &Network) {
    let _ = writeln!(out, "  - name: {}", scalar(network.name.as_str()));
    if let Some(switch) = network.switch {
        let _ = writeln!(out, "    switch: {}", scalar(&switch.to_string()));
    }
}

fn node(out: &mut String, node: &Node) {
    let _ = writeln!(
        out,
        "  - name: {}\n    networks:",
        scalar(node.name.as_str())
    );
    for (network, at) in &node.networks {
        let _ = writeln!(
            out,
            "      {}: {{ interface: {}, address: {} }}",
            scalar(network.as_str()),
            scalar(&at.interface),
            scalar(&at.address.to_string())
        );
    }
}

fn reserve(out: &mut String, reserve: &Reserve) {
    let prefer = match reserve.prefer {
        Prefer::Availability => "availability",
        Prefer::Consistency => "consistency",
    };
    let name = scalar(reserve.name.as_str());
    let _ = writeln!(out, "  - name: {name}\n    prefer: {prefer}");
    if reserve.strict {
        out.push_str("    strict: yes\n");
    }
    if reserve.resume_on_one {
        out.push_str("    resume-on-one: agree\n");
    }
    out.push_str("    vips:\n");
    for vip in &reserve.vips {
        let address = scalar(&format!("{}/{}", vip.address, vip.prefix));
        let interface = scalar(&vip.interface);
        let _ = writeln!(
            out,
            "      - {{ address: {address}, interface: {interface} }}"
        );
    }
    if !reserve.directories.is_empty() {
        out.push_str("    directories:\n");
    }
    for directory in &reserve.directories {
        let path = scalar(&directory.path.to_string_lossy());
        let exclude = match directory.exclude.patterns() {
            [] => String::new(),
            patterns => format!(", exclude: {}", list(patterns)),
        };
        let limit = match directory.deletion_limit {
            limit if limit == DeletionLimit::default() => String::new(),
            limit => format!(", deletion-limit: {limit}"),
        };
        let scrub = match directory.scrub_rate {
            rate if rate == ScrubRate::default() => String::new(),
            rate => format!(", scrub-rate: {rate}"),
        };
        let _ = writeln!(out, "      - {{ path: {path}{exclude}{limit}{scrub} }}");
    }
    if !reserve.services.is_empty() {
        out.push_str("    services:\n");
    }
    for s in &reserve.services {
        service(out, s);
    }
}

fn service(out: &mut String, s: &Service) {
    let _ = writeln!(out, "      - name: {}", scalar(&s.name));
    let line = match &s.kind {
        ServiceKind::Exec { argv } => {
            let words: Vec<String> = argv.iter().map(|w| scalar(w)).collect();
            format!("exec: [{}]", words.join(", "))
        }
        ServiceKind::Script {
            start,
            stop,
            status,
        } => format!(
            "script: {{ start: {}, stop: {}, status: {} }}",
            scalar(start),
            scalar(stop),
            scalar(status)
        ),
        ServiceKind::Systemd { unit } => format!("systemd: {}", scalar(unit)),
        ServiceKind::Init { path } => format!("init: {}", scalar(&path.to_string_lossy())),
        ServiceKind::Ocf { agent, .. } => format!("ocf: {}", scalar(agent)),
    };
    let _ = writeln!(out, "        {line}");
    if let ServiceKind::Ocf { parameters, .. } = &s.kind
        && !parameters.is_empty()
    {
        out.push_str("        parameters:\n");
        for (key, value) in parameters {
            let _ = writeln!(out, "          {}: {}", scalar(key), scalar(value));
        }
    }
    for (key, span) in [
        ("start-timeout", s.start_timeout),
        ("stop-timeout", s.stop_timeout),
        ("check-interval", s.check_interval),
        ("check-timeout", s.check_timeout),
    ] {
        let _ = writeln!(out, "        {key}: {}", exact(span));
    }
    let _ = writeln!(out, "        restarts: {}", s.restarts);
    let _ = writeln!(out, "        restart-window: {}", exact(s.restart_window));
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| scalar(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// A text as a YAML scalar: plain where that cannot be misread, double-quoted otherwise.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._/@-".contains(&b))
        && !["null", "true", "false", "yes", "no", "on", "off"]
            .contains(&text.to_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}
