//! The table: by which rules a server takes, keeps and gives up a reserve.
//!
//! Rows are tried from top to bottom and the first that matches is taken; alarms are apart
//! from that: every alarm row that matches stands. `docs/rules.md` is printed from here.
//! A row says nothing about time: "long enough" is a fact (`assess.rs`).

use haarb_model::Role::{Active, Failed, Releasing, Standby, Starting, Taking, Waiting};
use haarb_model::Severity::{Critical, Info, Major, Minor};

use crate::facts::{
    Alone, Cond as C, Contact, Deaf, Drain, Eligible, Epochs, Found, Hands, Health, Heir, Lease,
    Links, Probe, Proof, Ready, Released, Rival, Software, Stall, Strict, Turn, Vip, Wish,
};
use crate::rule::{Outcome, Rule};

const NOT_WHOLE: C = C::Links(&[Links::None, Links::Fresh, Links::Some]);
const ANY_LINK: C = C::Links(&[Links::Fresh, Links::Some, Links::All]);
const WHOLE: C = C::Links(&[Links::All]);
const ONE: C = C::Links(&[Links::Some]);
const SILENT: C = C::Contact(&[Contact::Silent]);
const QUIET: C = C::Contact(&[Contact::Quiet]);
const HEARD: C = C::Contact(&[Contact::Heard]);
const NOT_HEARD: C = C::Contact(&[Contact::Quiet, Contact::Silent]);
const NO_RIVAL: C = C::Rival(&[Rival::None]);
const SOME_RIVAL: C = C::Rival(&[Rival::Below, Rival::Above]);
const VIP_SILENT: C = C::Probe(&[Probe::Silent]);
const VIP_NOT_TAKEN: C = C::Probe(&[Probe::Unknown, Probe::Silent]);
const VIP_NEIGHBOUR: C = C::Probe(&[Probe::Neighbour]);
const ELIGIBLE: C = C::Eligible(&[Eligible::Yes]);
const OLD_DATA: C = C::Eligible(&[Eligible::OldData]);
const NOT_ELIGIBLE: C = C::Eligible(&[Eligible::No]);
const HEIR: C = C::Heir(&[Heir::Ready]);
const FREE: C = C::Hands(&[Hands::Free]);
const WON: C = C::Turn(&[Turn::Won]);
const MY_TURN: C = C::Turn(&[Turn::Mine, Turn::Won]);
const DEAD: C = C::Software(&[Software::Dead]);
const LONG: C = C::Alone(&[Alone::Long, Alone::Cold]);
const LOOKED: C = C::Found(&[Found::Nothing]);
const FAILED: C = C::Health(&[Health::Failed]);

/// The whole table, in the order in which it is tried.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    // ---- any role ------------------------------------------------------------------
    Rule { id: "T1", name: "taken", roles: &[Taking], when: &[C::Ready(&[Ready::Yes]), NO_RIVAL, C::Lease(&[Lease::Valid]), C::Stall(&[Stall::No])],
        then: Outcome::Go(Active), severity: Info,
        why: "The virtual IPs are held and the services run: this server serves.", look: "" },
    Rule { id: "M1", name: "maintenance", roles: &[Taking, Active], when: &[C::Hands(&[Hands::Frozen]), C::Wish(&[Wish::None]), C::Rival(&[Rival::None, Rival::Below])],
        then: Outcome::Stay, severity: Info,
        why: "Maintenance: nothing is switched and nothing is stopped.", look: "" },
    Rule { id: "X1", name: "stalled", roles: &[Standby, Taking, Active, Releasing, Waiting], when: &[C::Stall(&[Stall::Yes])],
        then: Outcome::Go(Starting), severity: Major,
        why: "This server (or its vip-agent or prober) was frozen for longer than its lease. It let go of the virtual IPs and looks around before anything else.",
        look: "Look for a paused virtual machine, an overloaded host or a stuck kernel: `dmesg`, steal time, memory pressure." },
    Rule { id: "X2", name: "restarted", roles: &[Starting], when: &[C::Found(&[Found::Held])],
        then: Outcome::Resume, severity: Info,
        why: "The arbiter started anew and found the virtual IPs held within their lease: it goes on in the same role and epoch.",
        look: "Look why the arbiter restarted, unless this was an upgrade." },
    Rule { id: "X2a", name: "looks what is held", roles: &[Starting], when: &[C::Found(&[Found::Unknown])],
        then: Outcome::Stay, severity: Info,
        why: "Just started: first the vip-agent must say what it holds.", look: "" },
    Rule { id: "X3", name: "foreign claim", roles: &[Starting, Standby, Taking, Active, Releasing, Waiting, Failed], when: &[C::Probe(&[Probe::Foreign])],
        then: Outcome::Alarm, severity: Critical,
        why: "A machine that is no server of this cluster answers for a virtual IP. An active server keeps the address and defends it; nobody takes it over meanwhile.",
        look: "Find the machine by its MAC address in the switches and take the address away from it." },

    // ---- taking and active ---------------------------------------------------------
    Rule { id: "A1", name: "outranked", roles: &[Taking, Active, Releasing], when: &[C::Rival(&[Rival::Above])],
        then: Outcome::Go(Standby), severity: Critical,
        why: "Another server serves too, under a higher epoch (or before us in the order): this one let go at once.",
        look: "Both served for a while: look at `haarb events` of both servers, at the layer-2 path between them, and at the place for conflicts." },
    Rule { id: "A14", name: "lease ran out", roles: &[Taking, Active, Releasing], when: &[C::Lease(&[Lease::Lapsed])],
        then: Outcome::Go(Starting), severity: Critical,
        why: "The vip-agent or the prober did not come back within the lease: without them nothing may be held, so this server let go.",
        look: "Look at the logs of haarb-vip-agent and haarb-prober." },
    Rule { id: "A3", name: "cut off", roles: &[Taking, Active, Releasing], when: &[C::Links(&[Links::None])],
        then: Outcome::Go(Waiting), severity: Critical,
        why: "No network is usable here: this server removed the virtual IPs, stopped the services and the sync, and waits for the networks.",
        look: "Look at the switches and the cables of this server." },
    Rule { id: "A4", name: "not heard", roles: &[Taking, Active, Releasing], when: &[C::Deaf(&[Deaf::Yes])],
        then: Outcome::Go(Standby), severity: Critical,
        why: "A neighbour that may take over, or serves too, does not hear us: only this server can know that, so it gave way.",
        look: "Packets are lost in one direction: look at switch ports, firewalls and cables between the two." },
    Rule { id: "OP1", name: "let go", roles: &[Taking, Active], when: &[C::Wish(&[Wish::LetGo])],
        then: Outcome::Go(Standby), severity: Major,
        why: "Asked to give up the reserve, and nobody is eligible to take it: it is let go and nobody serves.",
        look: "`haarb status` on the other server says why it is not eligible." },
    Rule { id: "A12", name: "switchover asked", roles: &[Taking, Active], when: &[C::Wish(&[Wish::HandOver]), HEIR],
        then: Outcome::HandOver(Standby), severity: Info,
        why: "An operator asked for it: the reserve is handed over.", look: "" },
    Rule { id: "A5", name: "own link lost", roles: &[Taking, Active], when: &[ONE, HEIR, FREE],
        then: Outcome::HandOver(Standby), severity: Major,
        why: "This server lost a network that the neighbour still has: the reserve is handed over.",
        look: "Look at the cable and the network card of the network that `haarb status` shows as down." },
    Rule { id: "A10", name: "service failed", roles: &[Taking, Active], when: &[FAILED, HEIR, FREE],
        then: Outcome::HandOver(Failed), severity: Critical,
        why: "What is needed to serve failed here for good: the reserve is handed over to a server that can.",
        look: "Mend the service, then `haarb clear`: until then this server is not eligible." },
    Rule { id: "A7s", name: "one network, alone, strict", roles: &[Taking, Active, Releasing], when: &[C::Links(&[Links::Fresh, Links::Some]), NOT_HEARD, C::Strict(&[Strict::Yes]), C::Hands(&[Hands::Free])],
        then: Outcome::Go(Standby), severity: Critical,
        why: "One network is left, the neighbour is not heard, and the configuration says `strict`: nobody can say that it does not take over, so this server gave way.",
        look: "Look at the switch of the lost network and at the neighbour; if it is really dead: `haarb promote --force` here." },
    Rule { id: "A15", name: "renumbered", roles: &[Taking, Active], when: &[NO_RIVAL, C::Epochs(&[Epochs::Higher])],
        then: Outcome::Renumber, severity: Minor,
        why: "A server that does not serve knows a higher epoch than ours: this server goes on serving under a new one above it, so that the others follow.",
        look: "That server served without us knowing: look at its events and at the place for conflicts." },
    Rule { id: "A2", name: "outranks", roles: &[Taking, Active], when: &[C::Rival(&[Rival::Below])],
        then: Outcome::Announce, severity: Critical,
        why: "Another server serves too, under a lower epoch (or after us in the order): it lets go; this one stays and announces the virtual IPs again.",
        look: "Both served for a while: look at `haarb events` of both servers, at the layer-2 path between them, and at the place for conflicts." },
    Rule { id: "A11", name: "service failed, nobody to take it", roles: &[Taking, Active], when: &[FAILED],
        then: Outcome::Alarm, severity: Critical,
        why: "What is needed to serve failed here, and no other server can take the reserve: this one stays and goes on trying.",
        look: "Mend the service; `haarb status` on the other server says why it is not eligible." },
    Rule { id: "A5a", name: "own link lost, data behind", roles: &[Taking, Active], when: &[ONE, C::Heir(&[Heir::Behind])],
        then: Outcome::Alarm, severity: Major,
        why: "This server lost a network that the neighbour still has, but the neighbour's data are not current: this server stays until they are.",
        look: "Look at the cable of the lost network and at the replica's lag in `haarb status`." },
    Rule { id: "A6", name: "switch lost", roles: &[Taking, Active], when: &[ONE, HEARD, C::Heir(&[Heir::None])],
        then: Outcome::Alarm, severity: Major,
        why: "One network is lost here and the neighbour is not better off: this server goes on serving; automatic switchover is off until both networks are whole again.",
        look: "Look at the switch of the lost network." },
    Rule { id: "A7", name: "one network, alone", roles: &[Taking, Active], when: &[ONE, NOT_HEARD],
        then: Outcome::Alarm, severity: Critical,
        why: "One network is left and the neighbour is not heard: this server goes on serving, unprotected.",
        look: "Look at the switch of the lost network and at the neighbour." },
    Rule { id: "A8", name: "neighbour's software silent", roles: &[Taking, Active], when: &[WHOLE, QUIET, DEAD],
        then: Outcome::Alarm, severity: Major,
        why: "The neighbour's kernel answers but its haarb does not: this server goes on serving, unprotected.",
        look: "Look at the daemons of the neighbour: `haarb status` there." },
    Rule { id: "A9", name: "alone", roles: &[Taking, Active], when: &[WHOLE, SILENT],
        then: Outcome::Alarm, severity: Major,
        why: "The neighbour is silent on every network: this server goes on serving, not protected.",
        look: "Look whether the neighbour is powered on and connected." },
    Rule { id: "A13", name: "hold", roles: &[Taking, Active], when: &[],
        then: Outcome::Stay, severity: Info,
        why: "All is well: the leases are renewed while the agents they depend on are fresh.", look: "" },

    // ---- handing over --------------------------------------------------------------
    Rule { id: "G4", name: "let go after all", roles: &[Releasing], when: &[C::Wish(&[Wish::LetGo]), C::Drain(&[Drain::Overdue, Drain::Lost])],
        then: Outcome::Go(Standby), severity: Critical,
        why: "The hand-over could not be finished, and this server was told to give up the reserve: it let go.",
        look: "Look whether the other server serves: `haarb status`; if not, `haarb promote` there." },
    Rule { id: "G3", name: "hand-over abandoned", roles: &[Releasing], when: &[C::Drain(&[Drain::Overdue, Drain::Lost])],
        then: Outcome::Abandon, severity: Major,
        why: "The receiver of the hand-over is gone, or stopping and draining took longer than drain-max: this server serves on.",
        look: "Look at the other server, at services that refuse to stop, and at the replica's lag." },
    Rule { id: "G2", name: "released", roles: &[Releasing], when: &[C::Drain(&[Drain::Done]), C::Vip(&[Vip::Down])],
        then: Outcome::Release, severity: Info,
        why: "Services stopped, replica drained, virtual IPs removed: the reserve is released to the other server.", look: "" },
    Rule { id: "G1", name: "drained", roles: &[Releasing], when: &[C::Drain(&[Drain::Done])],
        then: Outcome::Seal, severity: Info,
        why: "Services stopped and replica drained: the virtual IPs are being removed.", look: "" },
    Rule { id: "G0", name: "stopping and draining", roles: &[Releasing], when: &[],
        then: Outcome::Stay, severity: Info,
        why: "Services are being stopped and the rest of the replica is being sent.", look: "" },

    // ---- an operator's takeover ----------------------------------------------------
    Rule { id: "OP2", name: "promoted by force", roles: &[Starting, Standby, Waiting, Failed], when: &[C::Wish(&[Wish::Force])],
        then: Outcome::Take, severity: Major,
        why: "An operator gave this server the reserve by force.",
        look: "Make sure that no other server serves; `haarb clear` ends the manual mode." },
    Rule { id: "OP3", name: "promoted", roles: &[Starting, Standby, Waiting], when: &[C::Wish(&[Wish::Take]), ANY_LINK, NO_RIVAL, VIP_SILENT],
        then: Outcome::Take, severity: Major,
        why: "An operator gave this server the reserve; nobody answers for the virtual IPs.", look: "" },

    // ---- standby -------------------------------------------------------------------
    Rule { id: "B1", name: "cut off", roles: &[Standby], when: &[C::Links(&[Links::None])],
        then: Outcome::Go(Waiting), severity: Major,
        why: "No network is usable here: this server waits for the networks.",
        look: "Look at the switches and the cables of this server." },
    Rule { id: "B3", name: "released to us", roles: &[Standby], when: &[C::Released(&[Released::Yes]), NO_RIVAL],
        then: Outcome::Take, severity: Info,
        why: "The active server released the reserve to this one: it takes the next epoch.", look: "" },
    Rule { id: "B7", name: "server dead", roles: &[Standby], when: &[WHOLE, ELIGIBLE, SILENT, NO_RIVAL, VIP_SILENT],
        then: Outcome::Take, severity: Critical,
        why: "Every neighbour is silent on every network, three ECHO replies and a burst unanswered, and nobody answers for the virtual IPs: this server takes over.",
        look: "Look at the other server: power, kernel, cables." },
    Rule { id: "B6", name: "software dead", roles: &[Starting, Standby, Waiting], when: &[WHOLE, ELIGIBLE, QUIET, DEAD, NO_RIVAL, VIP_SILENT, LOOKED],
        then: Outcome::Take, severity: Critical,
        why: "The neighbour's kernel answers, its haarb has not for software-dead-after, and nobody answers for the virtual IPs: this server takes over.",
        look: "Look at the haarb daemons of the other server." },
    Rule { id: "B5", name: "elected", roles: &[Standby], when: &[ANY_LINK, HEARD, NO_RIVAL, WON, VIP_NOT_TAKEN],
        then: Outcome::Take, severity: Major,
        why: "Nobody serves; this server goes first in the order and nobody objects: it takes the next epoch.",
        look: "Look why the last active server let go: `haarb events`." },
    Rule { id: "B5a", name: "claim", roles: &[Standby], when: &[ANY_LINK, HEARD, NO_RIVAL, MY_TURN],
        then: Outcome::Claim, severity: Info,
        why: "Nobody serves and this server goes first: it claims the next epoch and waits for the others to yield.", look: "" },
    Rule { id: "B6a", name: "software dead, VIP answers", roles: &[Starting, Standby, Waiting], when: &[WHOLE, C::Eligible(&[Eligible::Yes, Eligible::OldData]), QUIET, DEAD, NO_RIVAL, VIP_NEIGHBOUR],
        then: Outcome::Alarm, severity: Critical,
        why: "The neighbour's haarb is dead but its kernel still answers for the virtual IPs: this server holds and asks on.",
        look: "Start haarb on the other server, or remove the virtual IPs there by hand; this server takes over as soon as they fall silent." },
    Rule { id: "B8", name: "VIP still answers", roles: &[Starting, Standby, Waiting], when: &[WHOLE, C::Eligible(&[Eligible::Yes, Eligible::OldData]), SILENT, NO_RIVAL, VIP_NEIGHBOUR],
        then: Outcome::Alarm, severity: Critical,
        why: "The neighbour is silent but still answers for the virtual IPs: this server holds and asks on.",
        look: "Look at firewalls (ICMP and UDP) between the servers and at the other server itself." },
    Rule { id: "B9", name: "data too old", roles: &[Starting, Standby, Waiting], when: &[WHOLE, OLD_DATA, NOT_HEARD, NO_RIVAL],
        then: Outcome::Alarm, severity: Critical,
        why: "Nobody serves, and this server could but for its data, which `prefer` does not allow to go live by themselves.",
        look: "Bring the other server back, or take over with what is here: `haarb promote --accept-stale`." },
    Rule { id: "B10", name: "would take over but may not", roles: &[Standby], when: &[WHOLE, NOT_ELIGIBLE, SILENT, NO_RIVAL, LONG],
        then: Outcome::Alarm, severity: Critical,
        why: "Every neighbour is silent and this server is not eligible: nobody serves.",
        look: "`haarb status` says what makes it not eligible; `haarb promote --force` overrides it." },
    Rule { id: "B6b", name: "software dead, not eligible", roles: &[Standby], when: &[WHOLE, NOT_ELIGIBLE, QUIET, DEAD, NO_RIVAL],
        then: Outcome::Alarm, severity: Critical,
        why: "The neighbour's haarb is dead and this server is not eligible.",
        look: "`haarb status` says what makes it not eligible; start haarb on the other server." },
    Rule { id: "B2a", name: "one network, alone", roles: &[Standby], when: &[C::Links(&[Links::Fresh, Links::Some]), NOT_HEARD],
        then: Outcome::Alarm, severity: Critical,
        why: "One network is left here and the active server is not heard: this server may not take over by itself.",
        look: "Look at the lost network; if the other server is really dead: `haarb promote --force`." },
    Rule { id: "B2", name: "one network", roles: &[Standby], when: &[ONE, HEARD],
        then: Outcome::Alarm, severity: Major,
        why: "One network is lost here: this server is not eligible until both are whole again.",
        look: "Look at the switch and the cable of the lost network." },
    Rule { id: "B4", name: "follow", roles: &[Standby], when: &[SOME_RIVAL],
        then: Outcome::Stay, severity: Info,
        why: "A neighbour serves: this server follows and receives the replica.", look: "" },
    Rule { id: "B11", name: "wait", roles: &[Standby], when: &[],
        then: Outcome::Stay, severity: Info,
        why: "Nobody serves as far as we hear, and nothing permits a takeover yet.", look: "" },

    // ---- starting and waiting ------------------------------------------------------
    Rule { id: "W1", name: "somebody serves", roles: &[Starting, Waiting], when: &[ANY_LINK, SOME_RIVAL],
        then: Outcome::Go(Standby), severity: Info,
        why: "A neighbour serves: this server becomes its standby and receives the replica.", look: "" },
    Rule { id: "W2", name: "both free", roles: &[Waiting], when: &[WHOLE, HEARD, NO_RIVAL, WON, VIP_NOT_TAKEN],
        then: Outcome::Take, severity: Major,
        why: "The networks are whole again, nobody serves, this server goes first in the order and nobody objects: it takes the next epoch.", look: "" },
    Rule { id: "W2a", name: "claim", roles: &[Waiting], when: &[WHOLE, HEARD, NO_RIVAL, MY_TURN],
        then: Outcome::Claim, severity: Info,
        why: "The networks are whole again and this server goes first: it claims the next epoch.", look: "" },
    Rule { id: "W3", name: "first to see both", roles: &[Waiting], when: &[WHOLE, SILENT, NO_RIVAL, LONG, ELIGIBLE, VIP_SILENT],
        then: Outcome::TakeMarked, severity: Critical,
        why: "This server is the first to see all networks again, every neighbour is silent and nobody answers for the virtual IPs: it takes over, marked because the others may have newer data.",
        look: "Look at the networks of the other server." },
    Rule { id: "S1", name: "start, proven", roles: &[Starting], when: &[WHOLE, SILENT, NO_RIVAL, LONG, C::Proof(&[Proof::Yes]), ELIGIBLE, VIP_SILENT, LOOKED],
        then: Outcome::Take, severity: Major,
        why: "Started alone; the record proves that no neighbour was active after us, and nobody answers for the virtual IPs: it takes over.",
        look: "Look whether the other server should be up." },
    Rule { id: "S2", name: "start, not proven", roles: &[Starting], when: &[WHOLE, SILENT, NO_RIVAL, C::Alone(&[Alone::Cold]), C::Proof(&[Proof::No]), ELIGIBLE, VIP_SILENT, LOOKED],
        then: Outcome::TakeMarked, severity: Critical,
        why: "Started alone and nobody answered for cold-start: this server takes over, marked because the others may have newer data.",
        look: "Look whether the other server should be up, and compare the data when it comes back." },
    Rule { id: "S3", name: "start, together", roles: &[Starting], when: &[ANY_LINK, HEARD, NO_RIVAL, WON, VIP_NOT_TAKEN, LOOKED],
        then: Outcome::Take, severity: Info,
        why: "Started together with others and nobody serves; this server goes first in the order and nobody objects: it takes the next epoch.", look: "" },
    Rule { id: "S3a", name: "claim", roles: &[Starting], when: &[ANY_LINK, HEARD, NO_RIVAL, MY_TURN, LOOKED],
        then: Outcome::Claim, severity: Info,
        why: "Started together with others, nobody serves and this server goes first: it claims the next epoch.", look: "" },
    Rule { id: "S2a", name: "start, waiting", roles: &[Starting], when: &[WHOLE, SILENT, NO_RIVAL, C::Alone(&[Alone::Long, Alone::Cold]), NOT_ELIGIBLE, LOOKED],
        then: Outcome::Alarm, severity: Critical,
        why: "Started alone, and nothing proves that no neighbour was active after us: this server waits for cold-start before it takes over.",
        look: "Look whether the other server should be up; `haarb promote` if its data are known to be older." },
    Rule { id: "W4", name: "not whole, alone", roles: &[Starting, Waiting], when: &[NOT_WHOLE, NOT_HEARD],
        then: Outcome::Alarm, severity: Critical,
        why: "Not all networks are usable and nobody is heard: this server waits; nobody serves as far as it knows.",
        look: "Look at the switches and cables." },
    Rule { id: "W5", name: "not whole, together", roles: &[Waiting], when: &[C::Links(&[Links::Fresh, Links::Some]), HEARD],
        then: Outcome::Alarm, severity: Critical,
        why: "The neighbour is heard again but not all networks are back: both wait for the rest.",
        look: "Look at the network that is still down; `haarb promote --force` serves without it." },
    Rule { id: "W7", name: "agreed on one network", roles: &[Waiting], when: &[ONE, HEARD, NO_RIVAL, WON, VIP_NOT_TAKEN],
        then: Outcome::Take, severity: Critical,
        why: "One network is back and both servers hear each other on it, nobody serves, and the configuration says `resume-on-one: agree`: this server goes first in the order and takes the next epoch, in manual mode.",
        look: "Look at the network that is still down: until it is back nothing is switched automatically." },
    Rule { id: "W7a", name: "claim on one network", roles: &[Waiting], when: &[ONE, HEARD, NO_RIVAL, MY_TURN],
        then: Outcome::Claim, severity: Info,
        why: "One network is back, nobody serves and this server goes first: it claims the next epoch.", look: "" },
    Rule { id: "W6", name: "wait", roles: &[Waiting], when: &[],
        then: Outcome::Stay, severity: Info,
        why: "Waiting for the networks, or for the turn in an election.", look: "" },
    Rule { id: "S4", name: "look around", roles: &[Starting], when: &[],
        then: Outcome::Stay, severity: Info,
        why: "Started a moment ago: looking for the others.", look: "" },

    // ---- failed --------------------------------------------------------------------
    Rule { id: "F2", name: "failed, nobody serves", roles: &[Failed], when: &[NO_RIVAL, NOT_HEARD],
        then: Outcome::Alarm, severity: Critical,
        why: "This server failed before and nobody is heard who serves.",
        look: "Mend what failed, then `haarb clear`; or `haarb promote --force`." },
    Rule { id: "F1", name: "failed", roles: &[Failed], when: &[],
        then: Outcome::Alarm, severity: Minor,
        why: "This server handed over because something failed here: it follows, but is not eligible.",
        look: "Mend what failed, then `haarb clear`." },
    Rule { id: "F3", name: "stay failed", roles: &[Failed], when: &[],
        then: Outcome::Stay, severity: Info,
        why: "Something here must be mended first.", look: "" },
];

#[cfg(test)]
mod tests;
