//! The cluster under test as its operator sees it: through the `haarb` command inside each server.
//!
//! Reads only what the contract promises and takes everything beyond it as optional, so that the lab
//! can drive older and newer versions alike.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{error::LabError, plan::ServerId, segment::Segment};

/// How long a look at a server may take. A frozen server answers nothing at all.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// How long a command that changes something may take.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(8);
/// How often a state is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `haarb status --json`, as far as the lab needs it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `automatic` or `manual`.
    pub mode: String,
    /// Why it is manual.
    pub mode_reason: String,
    /// Own links.
    pub links: Vec<LinkStatus>,
    /// All reserves.
    pub reserves: Vec<ReserveStatus>,
    /// What should be looked at.
    pub alarms: Vec<AlarmStatus>,
}

/// One alarm in the status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AlarmStatus {
    /// The rule.
    pub rule: String,
}

/// One link in the status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LinkStatus {
    /// Network name.
    pub network: String,
    /// Carrier and address are there.
    pub up: bool,
}

/// One reserve in the status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ReserveStatus {
    /// Its name.
    pub name: String,
    /// `starting`, `standby`, `taking`, `active`, `releasing`, `waiting` or `failed`.
    pub role: String,
    /// Of the last activation known here.
    pub epoch: u64,
    /// Its virtual IPs.
    pub vips: Vec<VipStatus>,
    /// Whether this server could take it now; not every version says so.
    pub eligible: Option<bool>,
    /// Why not.
    pub not_eligible: String,
    /// How good its replica is: `current`, `stale` or `inconsistent`; not every version says so.
    pub data: String,
}

impl ReserveStatus {
    /// Whether this server could take it over now, and be handed it: a planned switchover needs data that
    /// are current.
    fn is_ready(&self) -> bool {
        self.eligible != Some(false) && !matches!(self.data.as_str(), "stale" | "inconsistent")
    }
}

/// One virtual IP in the status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct VipStatus {
    /// With prefix length.
    pub address: String,
    /// Whether it is on this server.
    pub held: bool,
}

/// One event of `haarb events --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Event {
    /// Who tells it.
    pub node: String,
    /// Name of the rule.
    pub rule: String,
    /// The reserve, empty for the whole server.
    #[serde(deserialize_with = "or_default")]
    pub reserve: String,
    /// Role before.
    #[serde(deserialize_with = "or_default")]
    pub from: String,
    /// Role after.
    #[serde(deserialize_with = "or_default")]
    pub to: String,
    /// Reason in words.
    #[serde(deserialize_with = "or_default")]
    pub why: String,
    /// The epoch after it.
    #[serde(deserialize_with = "or_default")]
    pub epoch: u64,
    /// When, in whatever form the version prints it.
    pub at: serde_json::Value,
    /// When, in microseconds since 1970; 0 where the version does not print it.
    pub at_unix_us: u64,
}

impl Event {
    /// Whether it tells of a change of role.
    #[must_use]
    pub fn changes_role(&self) -> bool {
        !self.to.is_empty() && self.from != self.to
    }
}

/// Takes `null` for the default value.
fn or_default<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Reads events that were printed one per line or as arrays.
///
/// # Errors
/// When something is neither.
pub fn parse_events(text: &str) -> Result<Vec<Event>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        Many(Vec<Event>),
        One(Event),
    }
    let mut events = Vec::new();
    for item in serde_json::Deserializer::from_str(text).into_iter() {
        match item? {
            OneOrMany::One(event) => events.push(event),
            OneOrMany::Many(many) => events.extend(many),
        }
    }
    Ok(events)
}

/// Asks a server for its status.
///
/// # Errors
/// When the command fails or prints something else.
pub fn status(lab: &Segment, server: ServerId) -> Result<Status, LabError> {
    let text = haarb_within(lab, server, &["status", "--json"], LOOK_LIMIT)?;
    serde_json::from_str(&text).map_err(|error| unreadable(lab, server, "status --json", &error))
}

/// The server that calls itself active for a reserve.
#[must_use]
pub fn who_is_active_for(lab: &Segment, reserve: &str) -> Option<ServerId> {
    lab.powered().find(|server| {
        status(lab, *server).is_ok_and(|status| {
            status
                .reserves
                .iter()
                .any(|state| state.name == reserve && state.role == "active")
        })
    })
}

/// All events that a server remembers.
///
/// # Errors
/// When the command fails or prints something else.
pub fn events(lab: &Segment, server: ServerId) -> Result<Vec<Event>, LabError> {
    let text = haarb_within(lab, server, &["events", "--json"], LOOK_LIMIT)?;
    parse_events(&text).map_err(|error| unreadable(lab, server, "events --json", &error))
}

/// Runs `haarb` with the given arguments inside a server and returns what it printed.
///
/// # Errors
/// When it does not end in time or not with status 0.
pub fn haarb(lab: &Segment, server: ServerId, arguments: &[&str]) -> Result<String, LabError> {
    haarb_within(lab, server, arguments, COMMAND_LIMIT)
}

fn haarb_within(
    lab: &Segment,
    server: ServerId,
    arguments: &[&str],
    limit: Duration,
) -> Result<String, LabError> {
    let argv: Vec<&str> = std::iter::once("haarb")
        .chain(arguments.iter().copied())
        .collect();
    let output = lab.run(server, &argv, limit)?;
    if output.status == 0 {
        return Ok(output.stdout);
    }
    let reason = format!("exit status {}: {}", output.status, output.stderr.trim());
    Err(LabError::Command {
        server: lab.server(server).name().to_owned(),
        command: argv.join(" "),
        reason,
    })
}

fn unreadable(lab: &Segment, server: ServerId, what: &str, error: &serde_json::Error) -> LabError {
    LabError::Command {
        server: lab.server(server).name().to_owned(),
        command: format!("haarb {what}"),
        reason: format!("its output is not what the contract promises: {error}"),
    }
}

/// A state of the whole cluster that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Every server with power is automatic; of each reserve one is active and holds its addresses,
    /// all others are standby, and where the version tells it, able to take over.
    Settled,
    /// Every server with power is in manual mode.
    AllManual,
    /// Every server with power is in manual mode for this reason.
    Manual(&'static str),
    /// No server with power serves: all wait, no virtual IP is held.
    NobodyServes,
}

/// Waits for a goal and returns who is active for the first reserve then.
///
/// # Errors
/// [`LabError::Deadline`] with what was missing.
pub fn reach(lab: &Segment, goal: Goal, limit: Duration) -> Result<Option<ServerId>, LabError> {
    let what = match goal {
        Goal::Settled => "one server active, all others ready to take over",
        Goal::AllManual => "manual mode on every server",
        Goal::Manual(reason) => reason,
        Goal::NobodyServes => "nobody active and no virtual IP held",
    };
    lab.until(what, limit, LOOK_EVERY, |lab| {
        let mut states = Vec::new();
        for server in lab.powered() {
            states.push((
                server,
                status(lab, server).map_err(|error| error.to_string())?,
            ));
        }
        let held = lab
            .plan()
            .vips
            .iter()
            .any(|vip| !lab.holders(vip.address).is_empty());
        judge(goal, &states, held, |server| {
            lab.server(server).name().to_owned()
        })
    })
}

/// Whether the statuses fulfil a goal: who is active then, or what is missing. Pure.
fn judge(
    goal: Goal,
    states: &[(ServerId, Status)],
    vip_held: bool,
    name: impl Fn(ServerId) -> String,
) -> Result<Option<ServerId>, String> {
    for (server, status) in states {
        let wanted = match goal {
            Goal::Settled => Some("automatic"),
            Goal::AllManual | Goal::Manual(_) => Some("manual"),
            Goal::NobodyServes => None,
        };
        if let Goal::Manual(reason) = goal
            && status.mode_reason != reason
        {
            return Err(format!(
                "{} is {} ({})",
                name(*server),
                status.mode,
                status.mode_reason
            ));
        }
        if let Some(wanted) = wanted
            && status.mode != wanted
        {
            return Err(format!(
                "{} is {} ({})",
                name(*server),
                status.mode,
                status.mode_reason
            ));
        }
    }
    let reserves: BTreeSet<&str> = states
        .iter()
        .flat_map(|(_, status)| &status.reserves)
        .map(|reserve| reserve.name.as_str())
        .collect();
    if reserves.is_empty() {
        return Err("no server shows a reserve".into());
    }
    let mut first_active = None;
    for reserve in reserves {
        let mut active = None;
        for (server, status) in states {
            let Some(state) = status.reserves.iter().find(|state| state.name == reserve) else {
                return Err(format!("{} does not show {reserve}", name(*server)));
            };
            let role = state.role.as_str();
            let fits = match goal {
                Goal::Settled => role == "standby" && state.is_ready() || role == "active",
                Goal::NobodyServes => role == "waiting",
                Goal::AllManual | Goal::Manual(_) => true,
            };
            if !fits {
                return Err(format!(
                    "{} is {role} for {reserve}, data {} {}",
                    name(*server),
                    state.data,
                    state.not_eligible
                ));
            }
            if role == "active" {
                if goal == Goal::Settled
                    && (active.is_some() || state.vips.iter().any(|vip| !vip.held))
                {
                    return Err(format!(
                        "{} is active for {reserve} but not alone, or without its addresses",
                        name(*server)
                    ));
                }
                active = Some(*server);
            }
        }
        if goal == Goal::Settled && active.is_none() {
            return Err(format!("nobody is active for {reserve}"));
        }
        first_active = first_active.or(active);
    }
    if goal == Goal::NobodyServes && vip_held {
        return Err("a virtual IP is still held".into());
    }
    Ok(first_active)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(mode: &str, role: &str, held: bool) -> Status {
        let vip = VipStatus {
            address: "10.77.1.100/24".into(),
            held,
        };
        let reserve = ReserveStatus {
            name: "demo".into(),
            role: role.into(),
            vips: vec![vip],
            ..ReserveStatus::default()
        };
        Status {
            mode: mode.into(),
            reserves: vec![reserve],
            ..Status::default()
        }
    }

    fn judged(goal: Goal, states: Vec<Status>, held: bool) -> Result<Option<ServerId>, String> {
        judge(
            goal,
            &states.into_iter().enumerate().collect::<Vec<_>>(),
            held,
            |server| format!("s{server}"),
        )
    }

    #[test]
    fn settled_means_one_active_with_its_addresses_and_the_rest_ready() {
        let (active, standby) = (
            state("automatic", "active", true),
            state("automatic", "standby", false),
        );
        let settled = |states: Vec<Status>| judged(Goal::Settled, states, true);
        assert_eq!(settled(vec![standby.clone(), active.clone()]), Ok(Some(1)));
        assert!(settled(vec![standby.clone(), standby.clone()]).is_err());
        assert!(settled(vec![active.clone(), active.clone()]).is_err());
        assert!(settled(vec![state("automatic", "active", false), standby.clone()]).is_err());
        assert!(settled(vec![active.clone(), state("manual", "standby", false)]).is_err());
        assert!(settled(vec![active.clone(), state("automatic", "starting", false)]).is_err());
        assert!(settled(vec![]).is_err());
        let mut not_ready = standby.clone();
        not_ready.reserves[0].eligible = Some(false);
        assert!(settled(vec![active.clone(), not_ready]).is_err());
        let mut behind = standby;
        behind.reserves[0].data = "stale".into();
        assert!(settled(vec![active, behind]).is_err());
    }

    #[test]
    fn nobody_serves_only_when_all_wait_and_no_address_is_held() {
        let waiting = state("manual", "waiting", false);
        assert_eq!(
            judged(
                Goal::NobodyServes,
                vec![waiting.clone(), waiting.clone()],
                false
            ),
            Ok(None)
        );
        assert!(
            judged(
                Goal::NobodyServes,
                vec![waiting.clone(), waiting.clone()],
                true
            )
            .is_err()
        );
        assert!(
            judged(
                Goal::NobodyServes,
                vec![waiting, state("automatic", "active", false)],
                false
            )
            .is_err()
        );
    }

    #[test]
    fn manual_mode_must_be_everywhere() {
        let manual = state("manual", "active", true);
        assert_eq!(
            judged(
                Goal::AllManual,
                vec![manual.clone(), state("manual", "standby", false)],
                true
            ),
            Ok(Some(0))
        );
        assert!(
            judged(
                Goal::AllManual,
                vec![manual, state("automatic", "standby", false)],
                true
            )
            .is_err()
        );
    }

    #[test]
    fn events_are_read_as_lines_or_array_and_null_is_empty() {
        let lines = "{\"rule\":\"B7\",\"node\":\"beta\",\"from\":\"standby\",\"to\":\"taking\",\"epoch\":2}\n{\"rule\":\"X4\",\"from\":null,\"to\":null}\n";
        let events = parse_events(lines).expect("two events");
        assert_eq!(events.len(), 2);
        assert!(events[0].changes_role() && !events[1].changes_role());
        assert_eq!(
            parse_events("[{\"rule\":\"A1\"}]").expect("an array")[0].rule,
            "A1"
        );
        assert!(parse_events("nonsense").is_err());
    }
}
