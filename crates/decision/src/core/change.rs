//! What a row of the table does to a reserve: the only place where a role changes.

use super::*;

impl Core {
    /// Ends what has had its time: wishes, released epochs.
    pub(super) fn tidy(&mut self, i: usize, step: &mut Step, clock: &mut Clock) {
        let timing = self.view.segment.timing;
        let reserve = &mut self.reserves[i];
        if let Some((to, since)) = &reserve.released {
            let waiting = self
                .view
                .neighbours
                .iter()
                .find(|n| &n.name == to)
                .and_then(|n| n.part(&reserve.spec.name))
                .is_some_and(|part| part.role == Role::Standby);
            if !waiting || clock.passed(*since, timing.claim_after) {
                reserve.released = None;
            }
        }
        if let Some((_, epoch, since)) = &reserve.asks
            && (reserve.known > *epoch || clock.passed(*since, timing.drain_max))
        {
            reserve.asks = None;
        }
        let limit = match &reserve.asked {
            Some((Asked::HandOver(_), since)) if reserve.role != Role::Releasing => {
                Some((*since, timing.drain_max))
            }
            Some((Asked::Take, since)) => Some((*since, timing.claim_after.times(2))),
            // Force waits no longer than anybody can hold, and for what a lease needs here.
            Some((Asked::Force, since)) => Some((
                *since,
                (timing.lease + KernelLine::Lifetime.late()).times(2),
            )),
            _ => None,
        };
        if let Some((since, limit)) = limit
            && clock.passed(since, limit)
        {
            let missing = match reserve.asked.take() {
                Some((Asked::Force, _)) => explain::no_holder(&self.view, reserve, clock),
                _ => explain::no_heir(&self.view, reserve, None),
            };
            step.events.push(Event {
                severity: Severity::Major,
                rule: "OP",
                reserve: Some(reserve.spec.name.clone()),
                from: Some(reserve.role),
                to: Some(reserve.role),
                epoch: reserve.epoch(),
                why: format!(
                    "What an operator asked for could not be done within {limit}: nothing was changed. {missing}"
                ),
                evidence: explain::evidence(&self.view, reserve, clock.now()),
            });
        }
    }

    /// Asks the table until the role rests.
    pub(super) fn settle(&mut self, i: usize, step: &mut Step, clock: &mut Clock) {
        for _ in 0..CHANGES_MAX {
            let around = Around {
                view: &self.view,
                mode: &self.mode,
                leaving: self.leaving,
            };
            let reserve = &mut self.reserves[i];
            reserve.facts = assess::facts(around, reserve, clock);
            let Some(rule) = decide(reserve.role, &reserve.facts) else {
                break;
            };
            self.probe(i, clock.now());
            if !rule.then.changes() {
                self.rest(i, rule, clock.now());
                break;
            }
            self.change(i, rule, step, clock);
        }
        self.reserves[i].stalled = false;
    }

    /// Starts and ends the question who answers for the virtual IPs.
    pub(super) fn probe(&mut self, i: usize, now: Mono) {
        let reserve = &mut self.reserves[i];
        if !assess::wants_probe(&self.view, reserve, &reserve.facts) {
            reserve.probing_since = None;
            reserve.answered = None;
            reserve.answers = false;
        } else if reserve.probing_since.is_none() {
            reserve.probing_since = Some(now);
        }
    }

    /// A row that leaves the role as it is.
    pub(super) fn rest(&mut self, i: usize, rule: &'static Rule, now: Mono) {
        let reserve = &mut self.reserves[i];
        reserve.holds = rule.id;
        if rule.then == Outcome::Claim && reserve.claims.is_none() {
            reserve.claims = Some(now);
            reserve.probing_since.get_or_insert(now);
        }
        if rule.then == Outcome::Seal
            && let Some(handing) = &mut reserve.handing
        {
            handing.sealed = true;
        }
        if !reserve.role.serves()
            && let Some(active) = assess::active_neighbour(&self.view, reserve)
        {
            let name = active.name.clone();
            self.reserves[i].source = Some(name);
        }
    }

    /// A row that changes the role or the epoch.
    pub(super) fn change(
        &mut self,
        i: usize,
        rule: &'static Rule,
        step: &mut Step,
        clock: &mut Clock,
    ) {
        let now = clock.now();
        let evidence = explain::evidence(&self.view, &self.reserves[i], now);
        let from = self.reserves[i].role;
        match rule.then {
            Outcome::Go(role) => self.go(i, role, now),
            Outcome::Resume => self.resume(i, now),
            Outcome::HandOver(then) => {
                let handing = assess::handing(&self.view, &self.reserves[i], then, clock);
                self.go(i, Role::Releasing, now);
                self.reserves[i].handing = handing;
            }
            Outcome::Release => {
                let handing = self.reserves[i].handing.take();
                let then = handing.as_ref().map_or(Role::Standby, |h| h.then);
                self.go(i, then, now);
                let asked = handing.as_ref().is_some_and(|h| h.fit != Fit::Eligible);
                if !asked && self.leaving.is_none() {
                    self.mode.count_switch(now);
                }
                self.reserves[i].released = handing.map(|h| (h.to, now));
            }
            Outcome::Abandon => {
                self.go(i, Role::Active, now);
                let reserve = &mut self.reserves[i];
                reserve.asked = None;
                reserve.retry_after = now + self.view.segment.timing.drain_max;
            }
            Outcome::Take | Outcome::TakeMarked => self.take(i, rule.then, now),
            Outcome::Renumber => {
                let reserve = &mut self.reserves[i];
                reserve.known = reserve.known.next();
                reserve.own = reserve.known;
                reserve.announce += 1;
            }
            Outcome::Stay | Outcome::Alarm | Outcome::Announce | Outcome::Seal | Outcome::Claim => {
            }
        }
        let reserve = &mut self.reserves[i];
        reserve.rule = rule.id;
        reserve.holds = rule.id;
        step.events.push(Event {
            severity: rule.severity,
            rule: rule.id,
            reserve: Some(reserve.spec.name.clone()),
            from: Some(from),
            to: Some(reserve.role),
            epoch: reserve.epoch(),
            why: explain::sentence(rule),
            evidence,
        });
    }

    pub(super) fn go(&mut self, i: usize, role: Role, now: Mono) {
        let reserve = &mut self.reserves[i];
        if reserve.role.serves() && !role.serves() {
            reserve.known = reserve.known.max(reserve.own);
            reserve.stale_since = None;
            if matches!(reserve.asked, Some((Asked::HandOver(_) | Asked::GiveUp, _))) {
                reserve.asked = None;
            }
        }
        if role == Role::Starting {
            reserve.looked = true;
        }
        reserve.stalled = false;
        reserve.role = role;
        reserve.since = now;
        reserve.handing = None;
        reserve.claims = None;
        reserve.election_since = None;
        reserve.eligible_since = None;
        reserve.probing_since = None;
        reserve.answered = None;
        reserve.answers = false;
        reserve.source = None;
    }

    pub(super) fn take(&mut self, i: usize, how: Outcome, now: Mono) {
        let lease = self.view.segment.timing.lease;
        let reserve = &self.reserves[i];
        let stale = self.view.data(&reserve.spec.name) != Data::Current
            && !eligible::newest(&self.view, reserve);
        // What was released to us is counted by who released it: only it knows why.
        let counts = reserve.facts.wish == Wish::None && reserve.facts.released == Released::No;
        self.go(i, Role::Taking, now);
        let reserve = &mut self.reserves[i];
        reserve.known = reserve.known.next();
        reserve.own = reserve.known;
        reserve.yields_to = None;
        reserve.released = None;
        reserve.asks = None;
        reserve.lease_until = now + lease;
        reserve.renewed = now;
        reserve.stale_since = (stale || how == Outcome::TakeMarked).then_some(now);
        if let Some((Asked::Force, _)) = reserve.asked.take() {
            reserve.operator = Some("haarb promote --force".into());
        }
        if counts {
            self.mode.count_switch(now);
        }
    }

    /// Rule X2: the same epoch, and no more than what was left of the lease.
    pub(super) fn resume(&mut self, i: usize, now: Mono) {
        let name = self.reserves[i].spec.name.clone();
        let Some((epoch, until)) = self
            .view
            .vips
            .get(&name)
            .map(|vip| (vip.epoch, vip.lease_until))
        else {
            return;
        };
        self.go(i, Role::Active, now);
        let reserve = &mut self.reserves[i];
        reserve.looked = true;
        reserve.own = epoch;
        reserve.known = reserve.known.max(epoch);
        reserve.lease_until = until;
        reserve.renewed = Mono::ZERO;
        reserve.announce += 1;
    }

    /// Rule A13: leases are renewed while the agents they depend on are fresh.
    pub(super) fn renew(&mut self, i: usize, clock: &mut Clock) {
        let lease = self.view.segment.timing.lease;
        let reserve = &mut self.reserves[i];
        if !reserve.role.serves() {
            return;
        }
        let span = if reserve.facts.hands == Hands::Frozen {
            MAINTENANCE_LEASE
        } else {
            lease
        };
        // After maintenance the lease is short again at once.
        reserve.lease_until = reserve.lease_until.min(clock.now() + span);
        if self.view.can_hold(clock) && clock.renews(&mut reserve.renewed, lease) {
            reserve.lease_until = clock.now() + span;
        }
    }
}
