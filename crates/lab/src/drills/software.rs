//! Faults of haarb's own software: daemons killed once and for good, user space frozen.
//!
//! A daemon that comes back in time changes no role; what the clients notice is measured.

use super::{STAYS, TAKEOVER, UNDISTURBED};
use crate::{
    cluster::Goal,
    drill::{
        Active as WhoIsActive, Drill,
        Fault::{Break, Freeze, Kill, KillDaemons, KillEverything, Stall, ThawAll},
        Service,
        Step::{Do, OtherServes, Reach, Watch},
        Who::{Active, Standby},
    },
};

const RESTARTED: &str =
    "Nothing; look into the log why it died. `haarb run` and systemd start it again.";
const STALLED: &str =
    "Look for a debugger, a hung file system or a bug; kill it, and `haarb run` starts it again.";
const BROKEN: &str = "Look into its log and start it again; `haarb status` names the daemon.";

pub(super) fn drills() -> Vec<Drill> {
    [
        once(),
        for_good_on_active(),
        for_good_on_standby(),
        all_of_them(),
        stalled(),
    ]
    .concat()
}

fn once() -> Vec<Drill> {
    let kill = |name, what, who, program| {
        Drill::new(name, what, vec![Do(Kill(who, program)), Watch(2500)])
            .expect(STAYS, &[])
            .takeovers(0)
            .advice(RESTARTED)
    };
    vec![
        kill(
            "kill-arbiter-active",
            "arbiter of the active killed",
            Active,
            "haarb-arbiter",
        ),
        kill(
            "kill-link-watcher-active",
            "link-watcher of the active killed",
            Active,
            "haarb-link-watcher",
        ),
        kill(
            "kill-prober-active",
            "prober of the active killed",
            Active,
            "haarb-prober",
        ),
        kill(
            "kill-vip-agent-active",
            "vip-agent of the active killed",
            Active,
            "haarb-vip-agent",
        ),
        kill(
            "kill-syncer-active",
            "syncer of the active killed",
            Active,
            "haarb-syncer",
        ),
        kill(
            "kill-supervisor-active",
            "supervisor of the active killed",
            Active,
            "haarb-supervisor",
        ),
        kill(
            "kill-arbiter-standby",
            "arbiter of the standby killed",
            Standby,
            "haarb-arbiter",
        ),
        kill(
            "kill-link-watcher-standby",
            "link-watcher of the standby killed",
            Standby,
            "haarb-link-watcher",
        ),
        kill(
            "kill-prober-standby",
            "prober of the standby killed",
            Standby,
            "haarb-prober",
        ),
        kill(
            "kill-vip-agent-standby",
            "vip-agent of the standby killed",
            Standby,
            "haarb-vip-agent",
        ),
        kill(
            "kill-syncer-standby",
            "syncer of the standby killed",
            Standby,
            "haarb-syncer",
        ),
        kill(
            "kill-supervisor-standby",
            "supervisor of the standby killed",
            Standby,
            "haarb-supervisor",
        ),
    ]
}

fn for_good_on_active() -> Vec<Drill> {
    let moves = |name, what, program, rules| {
        let steps = vec![Do(Break(Active, program)), OtherServes, Watch(500)];
        Drill::new(name, what, steps)
            .expect(TAKEOVER, rules)
            .takeovers(1)
            .advice(BROKEN)
    };
    let stays = |name, what, program| {
        Drill::new(name, what, vec![Do(Break(Active, program)), Watch(2500)])
            .expect(UNDISTURBED, &[])
            .takeovers(0)
            .advice(BROKEN)
    };
    vec![
        moves(
            "break-arbiter-active",
            "arbiter of the active killed for good",
            "haarb-arbiter",
            &["B6"],
        )
        .as_software_dead(),
        moves(
            "break-prober-active",
            "prober of the active killed for good",
            "haarb-prober",
            &[],
        ),
        moves(
            "break-vip-agent-active",
            "vip-agent of the active killed for good",
            "haarb-vip-agent",
            &[],
        ),
        moves(
            "break-link-watcher-active",
            "link-watcher of the active killed for good",
            "haarb-link-watcher",
            &[],
        ),
        stays(
            "break-syncer-active",
            "syncer of the active killed for good",
            "haarb-syncer",
        ),
        moves(
            "break-supervisor-active",
            "supervisor of the active killed for good",
            "haarb-supervisor",
            &[],
        ),
    ]
}

fn for_good_on_standby() -> Vec<Drill> {
    let stays = |name, what, program| {
        Drill::new(name, what, vec![Do(Break(Standby, program)), Watch(2000)])
            .expect(UNDISTURBED, &[])
            .takeovers(0)
            .advice(BROKEN)
    };
    vec![
        stays(
            "break-arbiter-standby",
            "arbiter of the standby killed for good",
            "haarb-arbiter",
        ),
        stays(
            "break-link-watcher-standby",
            "link-watcher of the standby killed for good",
            "haarb-link-watcher",
        ),
        stays(
            "break-prober-standby",
            "prober of the standby killed for good",
            "haarb-prober",
        ),
        stays(
            "break-vip-agent-standby",
            "vip-agent of the standby killed for good",
            "haarb-vip-agent",
        ),
        stays(
            "break-syncer-standby",
            "syncer of the standby killed for good",
            "haarb-syncer",
        ),
        stays(
            "break-supervisor-standby",
            "supervisor of the standby killed for good",
            "haarb-supervisor",
        ),
    ]
}

fn all_of_them() -> Vec<Drill> {
    vec![
        Drill::new(
            "kill-daemons-active",
            "all daemons of the active killed at once; they are started again",
            vec![Do(KillDaemons(Active)), Watch(2500), Reach(Goal::Settled)],
        )
        .expect((WhoIsActive::Someone, Service::Resumes), &[])
        .takeovers(1)
        .advice(RESTARTED),
        Drill::new(
            "kill-everything-active",
            "every process of the active killed at once, for good; its kernel lives",
            vec![Do(KillEverything(Active)), OtherServes, Watch(500)],
        )
        .expect(TAKEOVER, &["B6", "B7"])
        .takeovers(1)
        .as_software_dead()
        .advice("Restart haarb on that server, or the server."),
        Drill::new(
            "kill-everything-standby",
            "every process of the standby killed at once, for good; its kernel lives",
            vec![Do(KillEverything(Standby)), Watch(2500)],
        )
        .expect(UNDISTURBED, &["A8"])
        .takeovers(0)
        .advice(
            "Restart haarb on that server, or the server: until then nothing protects the service.",
        ),
        Drill::new(
            "freeze-active",
            "user space of the active frozen",
            vec![Do(Freeze(Active)), OtherServes, Watch(500)],
        )
        .expect(TAKEOVER, &["B6"])
        .takeovers(1)
        .as_software_dead()
        .advice("Look for a hung storage, memory pressure or a stuck kernel on that server."),
        Drill::new(
            "thaw",
            "the frozen server wakes up",
            vec![Do(ThawAll), Reach(Goal::Settled)],
        )
        .after("freeze-active")
        .expect(UNDISTURBED, &[])
        .advice("Nothing; it let go before anything else."),
        Drill::new(
            "freeze-standby",
            "user space of the standby frozen",
            vec![Do(Freeze(Standby)), Watch(2500)],
        )
        .expect(UNDISTURBED, &["A8"])
        .takeovers(0)
        .advice("Look for a hung storage, memory pressure or a stuck kernel on that server."),
    ]
}

/// One daemon stands still, and everything else of its server goes on.
fn stalled() -> Vec<Drill> {
    let moves = |name, what, program| {
        let steps = vec![Do(Stall(Active, program)), OtherServes, Watch(500)];
        Drill::new(name, what, steps)
            .expect(TAKEOVER, &[])
            .takeovers(1)
            .advice(STALLED)
    };
    let stays = |name, what, program| {
        Drill::new(name, what, vec![Do(Stall(Standby, program)), Watch(2500)])
            .expect(UNDISTURBED, &[])
            .takeovers(0)
            .advice(STALLED)
    };
    let wakes = |name, what, after| {
        Drill::new(name, what, vec![Do(ThawAll), Reach(Goal::Settled)])
            .after(after)
            .expect(UNDISTURBED, &[])
            .takeovers(0)
            .advice("Nothing; it asked before it did anything.")
    };
    vec![
        moves(
            "stalled-arbiter-active",
            "arbiter of the active stands still",
            "haarb-arbiter",
        )
        .as_software_dead(),
        wakes(
            "stalled-arbiter-active-wakes",
            "the arbiter that stood still goes on",
            "stalled-arbiter-active",
        ),
        moves(
            "stalled-prober-active",
            "prober of the active stands still",
            "haarb-prober",
        )
        .as_software_dead(),
        wakes(
            "stalled-prober-active-wakes",
            "the prober that stood still goes on",
            "stalled-prober-active",
        ),
        moves(
            "stalled-vip-agent-active",
            "vip-agent of the active stands still",
            "haarb-vip-agent",
        ),
        wakes(
            "stalled-vip-agent-active-wakes",
            "the vip-agent that stood still goes on",
            "stalled-vip-agent-active",
        ),
        stays(
            "stalled-arbiter-standby",
            "arbiter of the standby stands still",
            "haarb-arbiter",
        ),
        wakes(
            "stalled-arbiter-standby-wakes",
            "the arbiter of the standby goes on",
            "stalled-arbiter-standby",
        ),
        stays(
            "stalled-prober-standby",
            "prober of the standby stands still",
            "haarb-prober",
        ),
        wakes(
            "stalled-prober-standby-wakes",
            "the prober of the standby goes on",
            "stalled-prober-standby",
        ),
    ]
}
