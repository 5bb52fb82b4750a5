//! One measured run: settle, watch, strike, wait, watch, judge.

use std::time::Duration;

use haarb_lab::{
    analysis::{self, Stretch},
    clock::Stamp,
    error::LabError,
    plan::{ServerId, VipId},
    trace::Trace,
};

use crate::{
    fault::{FROZEN, Fault},
    kernel_watch::{self, Answers, KernelWatch},
    pair::Pair,
    result::Sample,
};

/// Undisturbed time before a fault.
const LEAD_IN: Duration = Duration::from_millis(300);
/// How long the virtual IPs may need to be answered once a pair has settled.
const SERVED_LIMIT: Duration = Duration::from_secs(5);
/// How long a takeover is awaited. A system that needs longer has not taken over.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(15);

/// Measures one fault on a pair, and mends it. The pair has to settle again before its next run.
///
/// # Errors
/// When the pair does not settle, or the lab fails. That the system does not take over is no error.
pub fn run(pair: &mut Pair, fault: Fault) -> Result<Sample, LabError> {
    let active = pair.settle()?;
    pair.lab().client().pause(false);
    let measured = measure(pair, fault, active);
    let mended = pair.mend(fault, active);
    measured.and_then(|sample| mended.map(|()| sample))
}

fn measure(pair: &mut Pair, fault: Fault, active: ServerId) -> Result<Sample, LabError> {
    let lab = pair.lab();
    lab.until_served_by(active, Stamp::now(), false, SERVED_LIMIT)?;
    let watch = KernelWatch::start(lab)?;
    let from = Stamp::now();
    std::thread::sleep(LEAD_IN);
    let struck = fault.strike(pair, active)?;
    let began = struck.began;

    let (after_fault, after_takeover) = fault.watch();
    let taken_over = if fault == Fault::Freeze {
        thaw_in_time(pair, active, began)?
    } else {
        await_takeover(pair, fault, active, began, TAKEOVER_LIMIT)
    };
    // From here on nothing is awaited: what happens meanwhile is what is measured.
    let mut end = began.plus(after_fault);
    if taken_over {
        end = end.max(Stamp::now().plus(after_takeover));
    }
    std::thread::sleep(end.since(Stamp::now()));

    let lab = pair.lab();
    let answers = watch.finish();
    let to = Stamp::now();
    let trace = lab.client().cut(from, to);
    let report = analysis::report(&trace, from, began, to);
    let gap_ms = if fault.is_planned() {
        report.handover_ms.filter(|_| report.gap_all_ms.is_some())
    } else {
        let moved = moved_vips(pair, fault);
        let gaps: Option<Vec<f64>> = moved.map(|vip| report.vips[vip].gap_ms).collect();
        // What moves though it need not (haarb moves a whole reserve) counts too.
        let others = report.vips.iter().filter_map(|vip| vip.gap_ms);
        gaps.map(|gaps| gaps.into_iter().chain(others).fold(0.0, f64::max))
    };
    Ok(Sample {
        gap_ms,
        dual_active_ms: dual_active_ms(&trace, &answers, from, to),
        lost: report.vips.iter().map(|vip| vip.lost).sum(),
        longest_outage_ms: (report.vips.iter())
            .map(|vip| vip.longest_outage_ms)
            .fold(0.0, f64::max),
        stall_ms: report.stall_max_ms,
        at: from,
    })
}

/// The virtual IPs that the other server must take over after this fault.
fn moved_vips(pair: &Pair, fault: Fault) -> impl Iterator<Item = VipId> {
    let vips = pair.lab().plan().vips.clone();
    (0..vips.len()).filter(move |vip| fault != Fault::Cable || vips[*vip].network == 0)
}

/// Waits until the other server answers for what it must take over.
fn await_takeover(
    pair: &Pair,
    fault: Fault,
    active: ServerId,
    since: Stamp,
    limit: Duration,
) -> bool {
    let other = pair.other(active);
    let awaited: Vec<VipId> = moved_vips(pair, fault).collect();
    let taken = pair
        .lab()
        .until("takeover", limit, Duration::from_millis(1), |lab| {
            let serves = |vip: &VipId| {
                (lab.client().last_answer(*vip))
                    .is_some_and(|(who, when)| who == other && when > since)
            };
            if awaited.iter().all(serves) {
                Ok(())
            } else {
                Err(String::new())
            }
        });
    taken.is_ok()
}

/// Waits for the takeover until the frozen server is thawed, which happens on time whatever the other
/// one does.
fn thaw_in_time(pair: &Pair, active: ServerId, frozen: Stamp) -> Result<bool, LabError> {
    let thaw_at = frozen.plus(FROZEN);
    let limit = thaw_at.since(Stamp::now());
    let taken_over = await_takeover(pair, Fault::Freeze, active, frozen, limit);
    std::thread::sleep(thaw_at.since(Stamp::now()));
    pair.lab().freeze(active, false)?;
    Ok(taken_over)
}

/// How long both servers would have answered for the same virtual IP, by what their services and their
/// kernels answered to those who asked them directly; milliseconds, of the virtual IP that had it longest.
fn dual_active_ms(trace: &Trace, answers: &Answers, from: Stamp, to: Stamp) -> f64 {
    let lists = |vip: VipId| -> Vec<Vec<Stretch>> {
        (0..trace.servers())
            .map(|server| {
                analysis::merged(
                    [
                        analysis::active(trace, server, vip, from, to),
                        kernel_watch::stretches(answers, server, vip),
                    ]
                    .concat(),
                )
            })
            .collect()
    };
    (0..trace.vips())
        .map(|vip| analysis::overlap_ms(&lists(vip)))
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_seen_by_service_and_kernel_counts_once() {
        let stretch = |from, to| Stretch {
            from: Stamp(from),
            to: Stamp(to),
        };
        let joined = analysis::merged(vec![
            stretch(5, 9),
            stretch(1, 3),
            stretch(2, 6),
            stretch(20, 20),
        ]);
        assert_eq!(joined, [stretch(1, 9), stretch(20, 20)]);
    }
}
