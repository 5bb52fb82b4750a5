//! Machines that have too little: processor time, memory, disk.

use super::{STAYS, TAKEOVER, UNDISTURBED};
use crate::drill::{
    Drill,
    Fault::{FillDisk, LoadProcessors, PowerOff, SqueezeMemory},
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
            "memory-pressure",
            "the kernel takes back every page of the standby that it may; then power-off of the active",
            vec![
                Before(SqueezeMemory(Standby)),
                Watch(1000),
                Do(PowerOff(Active)),
                OtherServes,
                Watch(300),
            ],
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
            vec![
                Before(FillDisk(Standby)),
                Watch(1000),
                Do(PowerOff(Active)),
                OtherServes,
                Watch(300),
            ],
        )
        .expect(TAKEOVER, &["B7"])
        .takeovers(1)
        .advice("Make room: what could not be written is missing after a takeover."),
    ]
}
