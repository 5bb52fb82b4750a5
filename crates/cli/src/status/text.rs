//! The status as a page for a person: trouble first visible, the rest in columns.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use haarb_api::v1;
use haarb_model::{Data, DirectoryState, KernelLine, Role, ServiceState, Span};
use jiff::tz::TimeZone;

use crate::when::{lasting, local};

/// The page. `now` in milliseconds since 1970.
pub(super) fn page(s: &v1::Status, now: u64, zone: &TimeZone, colour: bool) -> String {
    let mut page = Page {
        out: String::new(),
        now,
        zone,
        colour,
    };
    page.head(s);
    page.links(s);
    page.neighbours(s);
    for r in &s.reserves {
        page.reserve(r, &s.node);
    }
    page.alarms(&s.alarms);
    page.agents(s);
    page.out.trim_end().to_owned()
}

/// The standing alarms alone, as `haarb why` shows them.
pub(crate) fn alarms(alarms: &[v1::Alarm], now: u64, zone: &TimeZone, colour: bool) -> String {
    let mut page = Page {
        out: String::new(),
        now,
        zone,
        colour,
    };
    page.alarms(alarms);
    page.out
}

struct Page<'a> {
    out: String,
    now: u64,
    zone: &'a TimeZone,
    colour: bool,
}

#[derive(Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Plain,
}

impl Page<'_> {
    fn line(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.out, "{}", text.as_ref().trim_end());
    }

    /// A word padded to a width, coloured where the reader can see it.
    fn toned(&self, tone: Tone, width: usize, word: &str) -> String {
        let padded = format!("{word:<width$}");
        match tone {
            Tone::Good if self.colour => format!("\x1b[32m{padded}\x1b[0m"),
            Tone::Bad if self.colour => format!("\x1b[1;31m{padded}\x1b[0m"),
            _ => padded,
        }
    }

    fn since(&self, unix_ms: u64) -> String {
        if unix_ms == 0 {
            return String::new();
        }
        format!(
            "since {} ({})",
            local(unix_ms.saturating_mul(1000), self.zone),
            lasting(self.now.saturating_sub(unix_ms))
        )
    }

    fn head(&mut self, s: &v1::Status) {
        self.line(format!(
            "cluster {}   this server {}   profile {}   haarb {}",
            s.cluster, s.node, s.profile, s.version
        ));
        if s.mode() == v1::Mode::Automatic {
            let mode = self.toned(Tone::Good, 0, "automatic");
            self.line(format!("mode    {mode}"));
        } else {
            let mode = self.toned(Tone::Bad, 0, &format!("MANUAL ({})", s.mode_reason));
            let since = self.since(s.mode_since_unix_ms);
            self.line(format!("mode    {mode}   {since}"));
            if !s.mode_ends.is_empty() {
                self.line(format!("        ends: {}", s.mode_ends));
            }
        }
    }

    fn links(&mut self, s: &v1::Status) {
        self.line("\nnetworks");
        for l in &s.links {
            let (tone, word) = match (l.up, l.usable) {
                (_, true) => (Tone::Good, "usable"),
                (true, false) => (Tone::Bad, "NOT USABLE"),
                (false, false) => (Tone::Bad, "DOWN"),
            };
            let switch = match switch_answers(l.switch_answer()) {
                Some(true) => "switch answers",
                Some(false) => "switch SILENT",
                None => "switch not asked",
            };
            let state = self.toned(tone, 11, word);
            self.line(format!(
                "  {:<10} {:<10} {state} {switch:<17} {}",
                l.network, l.interface, l.reason
            ));
        }
    }

    fn neighbours(&mut self, s: &v1::Status) {
        self.line("\nneighbours");
        for n in &s.neighbours {
            let (tone, word) = match (n.software_alive, n.kernel_alive) {
                (true, _) => (Tone::Good, "alive"),
                (false, true) => (Tone::Bad, "SOFTWARE SILENT, kernel answers"),
                (false, false) if n.silent => (Tone::Bad, "DEAD"),
                (false, false) => (Tone::Bad, "not heard"),
            };
            let state = self.toned(tone, 11, word);
            let hears = match (n.software_alive, n.hears_me) {
                (true, true) => "hears this server   ",
                (true, false) => "DOES NOT HEAR THIS SERVER   ",
                (false, _) => "",
            };
            // Nothing is known yet where the prober has not reported.
            let dead_after = match n.dead_after_us {
                0 => String::new(),
                us => format!("dead after {} of silence", Span::from_micros(us)),
            };
            self.line(format!("  {:<10} {state} {hears}{dead_after}", n.name));
            for p in &n.paths {
                self.path(p);
            }
        }
    }

    fn path(&mut self, p: &v1::PathStatus) {
        let age =
            |us: Option<u64>| us.map_or("never".to_owned(), |us| format!("{} ago", short(us)));
        let heard = if p.heard {
            self.toned(Tone::Good, 10, "heard")
        } else {
            self.toned(Tone::Bad, 10, "NOT HEARD")
        };
        self.line(format!(
            "    {:<8} {heard}  rtt {:<8} loss {:<6} in {:<6} out {:<6} echo {:<12} datagram {}",
            p.network,
            short(p.rtt_us.into()),
            percent(Some(p.loss)),
            percent(p.loss_in),
            percent(p.loss_out),
            age(p.echo_age_us),
            age(p.datagram_age_us),
        ));
    }

    fn reserve(&mut self, r: &v1::ReserveStatus, me: &str) {
        let role = role(r.role());
        let (tone, word) = match role {
            Role::Active => (Tone::Good, role.as_str().to_uppercase()),
            Role::Failed | Role::Waiting => (Tone::Bad, role.as_str().to_uppercase()),
            _ => (Tone::Plain, role.as_str().to_owned()),
        };
        let word = self.toned(tone, 0, &word);
        let serves = match r.active_on.as_str() {
            "" => self.toned(Tone::Bad, 0, "NOBODY SERVES"),
            who if who == me => "served here".to_owned(),
            who => format!("served by {who}"),
        };
        let since = self.since(r.since_unix_ms);
        self.line(format!(
            "\nreserve {}   {word}   {serves}   epoch {}   {since}",
            r.name, r.epoch
        ));
        if !role.serves() {
            let ready = if r.eligible {
                "can take over".to_owned()
            } else {
                self.toned(
                    Tone::Bad,
                    0,
                    &format!("CANNOT TAKE OVER: {}", r.not_eligible),
                )
            };
            self.line(format!("  here       {ready}; data {}", data(r.data())));
        } else if r.data() != v1::Data::Current {
            self.line(format!("  data       {}", data(r.data())));
        }
        for v in &r.vips {
            let held = if v.held { "held here" } else { "not here" };
            let lines = kernel_lines(v.line()).join(", ");
            let lease = match lines.as_str() {
                "" => String::new(),
                lines => format!("; lease ended by {lines}"),
            };
            self.line(format!(
                "  vip        {:<24} {:<10} {held}{lease}",
                v.address, v.interface
            ));
            if !v.line_reason.is_empty() {
                self.line(format!("             {}", v.line_reason));
            }
        }
        for s in &r.services {
            let state = service_state(s.state()).map_or("unknown", ServiceState::as_str);
            let tone = match s.state() {
                v1::ServiceState::Failed => Tone::Bad,
                v1::ServiceState::Running => Tone::Good,
                _ => Tone::Plain,
            };
            let state = self.toned(tone, 0, state);
            self.line(format!("  service    {:<24} {state}", s.name));
        }
        for d in &r.directories {
            self.directory(d);
        }
        if r.conflicts > 0 {
            self.line(format!(
                "  conflicts  {} file versions were moved aside, none was lost",
                r.conflicts
            ));
        }
    }

    fn directory(&mut self, d: &v1::Directory) {
        let state = directory_state(d.state()).map_or("unknown", DirectoryState::as_str);
        let tone = match d.state() {
            v1::DirectoryState::Error => Tone::Bad,
            v1::DirectoryState::InSync => Tone::Good,
            _ => Tone::Plain,
        };
        let state = self.toned(tone, 18, state);
        let pending = if d.pending_files > 0 || d.lag_ms > 0 {
            format!(
                "{} files to go, lag {}",
                d.pending_files,
                short(d.lag_ms.saturating_mul(1000))
            )
        } else {
            String::new()
        };
        self.line(format!(
            "  directory  {:<24} {state} {pending} {}",
            d.path, d.error
        ));
    }

    fn alarms(&mut self, alarms: &[v1::Alarm]) {
        if alarms.is_empty() {
            self.line("\nno alarms");
            return;
        }
        self.line("\nalarms");
        for a in alarms {
            let tone = if a.severity == "minor" || a.severity == "info" {
                Tone::Plain
            } else {
                Tone::Bad
            };
            let severity = self.toned(tone, 9, &a.severity.to_uppercase());
            let since = self.since(a.since_unix_ms);
            let reserve = match a.reserve.as_str() {
                "" => String::new(),
                name => format!("{name}   "),
            };
            self.line(format!("  {severity} {:<4} {reserve}{since}", a.rule));
            self.line(format!("            {}", a.text));
        }
    }

    /// Daemons on the path of a failover that the kernel may delay, one line per reason.
    fn scheduling(&mut self, s: &v1::Status) {
        let mut problems: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for a in s.arbiter.iter().chain(&s.agents) {
            let problem = a.scheduling.as_ref().map(|s| s.problem.as_str());
            if let Some(problem) = problem.filter(|text| !text.is_empty()) {
                problems.entry(problem).or_default().push(&a.name);
            }
        }
        if problems.is_empty() {
            let mut all = s.arbiter.iter().chain(&s.agents);
            if all.any(|a| a.scheduling.is_some()) {
                self.line("scheduling  real-time priority, memory locked");
            }
        }
        for (problem, daemons) in problems {
            self.line(format!("scheduling  {}: {problem}", daemons.join(", ")));
        }
    }

    fn agents(&mut self, s: &v1::Status) {
        let missing: Vec<&str> = s
            .agents
            .iter()
            .filter(|a| !a.attached)
            .map(|a| a.name.as_str())
            .collect();
        if missing.is_empty() {
            self.line(format!("\ndaemons     all {} at work", s.agents.len()));
        } else {
            let text = format!("NOT AT WORK: {}", missing.join(", "));
            let text = self.toned(Tone::Bad, 0, &text);
            self.line(format!(
                "\ndaemons     {text}; see the log of `haarb run` or the journal"
            ));
        }
        self.scheduling(s);
        if !s.watchdog.is_empty() {
            let bad = s.watchdog.starts_with("NOT ");
            let tone = if bad { Tone::Bad } else { Tone::Good };
            let text = self.toned(tone, 0, &s.watchdog);
            self.line(format!("watchdog    {text}"));
        }
        let dropped: u64 = s.dropped_datagrams.values().sum();
        if dropped > 0 {
            let mut reasons: Vec<_> = s.dropped_datagrams.iter().collect();
            reasons.sort();
            let reasons: Vec<String> = reasons
                .iter()
                .filter(|(_, n)| **n > 0)
                .map(|(reason, n)| format!("{reason} {n}"))
                .collect();
            self.line(format!("datagrams   refused: {}", reasons.join(", ")));
        }
    }
}

/// A share in percent; `-` where it is not known.
fn percent(share: Option<f32>) -> String {
    share.map_or("-".into(), |s| format!("{:.1}%", f64::from(s) * 100.0))
}

/// A length of time with at most one decimal.
fn short(us: u64) -> String {
    match us {
        us if us < 1_000 => format!("{us}us"),
        us if us < 1_000_000 => format!("{:.1}ms", us as f64 / 1e3),
        us if us < 60_000_000 => format!("{:.1}s", us as f64 / 1e6),
        us => lasting(us / 1000),
    }
}

pub(super) fn role(role: v1::Role) -> Role {
    match role {
        v1::Role::Unspecified | v1::Role::Starting => Role::Starting,
        v1::Role::Standby => Role::Standby,
        v1::Role::Taking => Role::Taking,
        v1::Role::Active => Role::Active,
        v1::Role::Releasing => Role::Releasing,
        v1::Role::Waiting => Role::Waiting,
        v1::Role::Failed => Role::Failed,
    }
}

/// The word for a replica's state; an arbiter of another version may know more of them.
pub(super) const fn data(data: v1::Data) -> &'static str {
    match data {
        v1::Data::Unspecified => "unknown",
        v1::Data::Current => Data::Current.as_str(),
        v1::Data::Stale => Data::Stale.as_str(),
        v1::Data::Inconsistent => Data::Inconsistent.as_str(),
    }
}

pub(super) const fn switch_answers(answer: v1::SwitchAnswer) -> Option<bool> {
    match answer {
        v1::SwitchAnswer::Unspecified | v1::SwitchAnswer::NotAsked => None,
        v1::SwitchAnswer::Answers => Some(true),
        v1::SwitchAnswer::Silent => Some(false),
    }
}

/// What ends a virtual IP in the kernel when no process can, the first line first; the address
/// lifetime is under every other. Empty: not known yet.
pub(super) fn kernel_lines(line: v1::KernelLine) -> Vec<&'static str> {
    let line = match line {
        v1::KernelLine::Unspecified => return Vec::new(),
        v1::KernelLine::Lifetime => KernelLine::Lifetime,
        v1::KernelLine::Nftables => KernelLine::Nftables,
        v1::KernelLine::Ebpf => KernelLine::Ebpf,
    };
    let mut lines = vec![line.as_str(), KernelLine::Lifetime.as_str()];
    lines.dedup();
    lines
}

pub(super) const fn service_state(state: v1::ServiceState) -> Option<ServiceState> {
    Some(match state {
        v1::ServiceState::Unspecified => return None,
        v1::ServiceState::Stopped => ServiceState::Stopped,
        v1::ServiceState::Starting => ServiceState::Starting,
        v1::ServiceState::Running => ServiceState::Running,
        v1::ServiceState::Stopping => ServiceState::Stopping,
        v1::ServiceState::Failed => ServiceState::Failed,
    })
}

pub(super) const fn directory_state(state: v1::DirectoryState) -> Option<DirectoryState> {
    Some(match state {
        v1::DirectoryState::Unspecified => return None,
        v1::DirectoryState::Idle => DirectoryState::Idle,
        v1::DirectoryState::WaitingForPeer => DirectoryState::WaitingForPeer,
        v1::DirectoryState::Syncing => DirectoryState::Syncing,
        v1::DirectoryState::InSync => DirectoryState::InSync,
        v1::DirectoryState::Receiving => DirectoryState::Receiving,
        v1::DirectoryState::WaitingForSource => DirectoryState::WaitingForSource,
        v1::DirectoryState::Error => DirectoryState::Error,
    })
}
