//! Machines that have too little: processor time, memory, disk, a reader of their logs.

use super::{STAYS, TAKEOVER, UNDISTURBED};
use crate::drill::{
    Drill, Fault,
    Fault::{
        FillDisk, Freeze, Kill, LoadProcessors, PowerOff, SqueezeMemory, StuckLogs, Switchover,
        Together,
    },
    Step,
    Step::{Before, Do, OtherServes, Watch, WatchLong},
    Who::{Active, Standby},
};

pub(super) fn drills() -> Vec<Drill> {
    vec![
        Drill::new(
            "loaded-processors",
            "every processor saturated twice over",
            vec![Do(LoadProcessors), WatchLong],
        )
        .expect(STAYS, &[])
        .takeovers(0)
        .advice("Give the daemons real-time priority (`haarb status` says whether they have it)."),
        Drill::new(
            "loaded-kill-arbiter",
            "every processor saturated twice over; then the arbiter of the active killed",
            vec![
                Before(LoadProcessors),
                Watch(1000),
                Do(Kill(Active, "haarb-arbiter")),
                Watch(2500),
            ],
        )
        .expect(STAYS, &[])
        .takeovers(0)
        .advice("Nothing; `haarb run` has real-time priority, too, and starts it again in time."),
        Drill::new(
            "memory-pressure",
            "the kernel takes back every page of the standby that it may; then power-off of the active",
            on_top(SqueezeMemory(Standby), PowerOff(Active), 300),
        )
        .expect(TAKEOVER, &["B7"])
        .takeovers(1)
        .advice("Let the daemons lock their memory (`haarb status` says whether they have it)."),
        Drill::new(
            "disk-full-active",
            "the disk of the active is full",
            vec![Do(FillDisk(Active)), Watch(2000)],
        )
        .expect(UNDISTURBED, &[])
        .takeovers(0)
        .advice("Make room; haarb itself needs none to go on."),
        Drill::new(
            "disk-full-standby",
            "the disk of the standby is full; then power-off of the active",
            on_top(FillDisk(Standby), PowerOff(Active), 300),
        )
        .expect(TAKEOVER, &["B7"])
        .takeovers(1)
        .advice("Make room: what could not be written is missing after a takeover."),
        Drill::new(
            "disk-full-both",
            "the disks of both servers are full, state and logs too; then power-off of the active",
            on_top(full_disks(), PowerOff(Active), 300),
        )
        .expect(TAKEOVER, &["B7"])
        .takeovers(1)
        .advice("Make room: what could not be written is missing after a takeover."),
        Drill::new(
            "disk-full-both-freeze",
            "the disks of both servers are full; then user space of the active frozen",
            on_top(full_disks(), Freeze(Active), 500),
        )
        .expect(TAKEOVER, &["B6"])
        .takeovers(1)
        .as_software_dead()
        .advice("Make room, then look why that server hung."),
        Drill::new(
            "disk-full-switchover",
            "the disk of the active is full; then a planned switchover",
            on_top(FillDisk(Active), Switchover, 300),
        )
        .expect(TAKEOVER, &["A12"])
        .takeovers(1)
        .advice("Make room; the services run where there is some."),
        Drill::new(
            "stuck-logs-power-off",
            "nobody reads the logs of either server, every pipe is full; then power-off of the active",
            on_top(stuck_logs(), PowerOff(Active), 300),
        )
        .expect(TAKEOVER, &["B7"])
        .takeovers(1)
        .advice(UNREAD),
        Drill::new(
            "stuck-logs-switchover",
            "nobody reads the logs of either server, every pipe is full; then a planned switchover",
            on_top(stuck_logs(), Switchover, 300),
        )
        .expect(TAKEOVER, &["A12"])
        .takeovers(1)
        .advice(UNREAD),
    ]
}

/// A server that has had too little for a second; then the fault, until the other server serves, and
/// `after_ms` more.
fn on_top(too_little: Fault, fault: Fault, after_ms: u64) -> Vec<Step> {
    vec![
        Before(too_little),
        Watch(1000),
        Do(fault),
        OtherServes,
        Watch(after_ms),
    ]
}

const UNREAD: &str =
    "Look why the journal stands still; haarb drops the lines that nobody reads and says how many.";

fn full_disks() -> Fault {
    Together(vec![FillDisk(Active), FillDisk(Standby)])
}

fn stuck_logs() -> Fault {
    Together(vec![StuckLogs(Active), StuckLogs(Standby)])
}
