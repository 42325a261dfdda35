//! What was measured: rounds, their medians, tables and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::proc::Cpu;

/// Latencies in nanoseconds, three digits, up to a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|error| panic!("constant bounds: {error}"))
}

/// Puts a time into a histogram.
pub fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(time.as_nanos() as u64);
}

/// One round of one server.
pub struct Round {
    /// Operations done.
    pub operations: u64,
    /// Time they took.
    pub elapsed: Duration,
    /// What the server used meanwhile.
    pub cpu: Cpu,
    /// Time of each operation, as the workload defines it.
    pub latency: Histogram<u64>,
    /// Further numbers by name (with unit).
    pub extra: Vec<(&'static str, f64)>,
}

/// Which table a case belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Cost of some work.
    Work,
    /// A point of a curve: its name, and how many clients.
    Growth(&'static str, usize),
    /// Memory.
    Idle,
    /// Small beside large.
    Interference,
    /// The same work on one shard and on two; these are the servers compared.
    Shards,
}

/// All rounds of one server in one case.
pub struct Outcome {
    /// Name of the server.
    pub subject: String,
    /// Its rounds.
    pub rounds: Vec<Round>,
}

/// One case with all its servers.
pub struct CaseResult {
    /// Workload and parameters.
    pub name: String,
    /// What one operation is.
    pub unit: &'static str,
    /// The project's goal, if it has one.
    pub target: Option<&'static str>,
    /// Where it is shown.
    pub part: Part,
    /// The own server first.
    pub outcomes: Vec<Outcome>,
}

impl Outcome {
    /// Server CPU per operation in microseconds, median of the rounds.
    pub fn cpu_us(&self) -> f64 {
        median(
            self.rounds
                .iter()
                .map(|round| round.cpu.total() as f64 / 1e3 / round.operations.max(1) as f64),
        )
    }

    /// Lowest and highest round of the same.
    pub fn cpu_us_range(&self) -> (f64, f64) {
        let all = self
            .rounds
            .iter()
            .map(|round| round.cpu.total() as f64 / 1e3 / round.operations.max(1) as f64);
        all.fold((f64::MAX, 0.0), |(low, high), us| (low.min(us), high.max(us)))
    }

    /// Server CPU per operation by thread, microseconds.
    pub fn threads_us(&self) -> Vec<(String, f64)> {
        let mut threads: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
        for round in &self.rounds {
            for (name, ns) in &round.cpu.threads {
                threads
                    .entry(name)
                    .or_default()
                    .push(*ns as f64 / 1e3 / round.operations.max(1) as f64);
            }
        }
        let medians = threads
            .into_iter()
            .map(|(name, us)| (name.clone(), median(us.into_iter())));
        medians.filter(|(_, us)| *us > 0.0005).collect()
    }

    /// Share of the server's user time.
    pub fn user_share(&self) -> Option<f64> {
        let (user, system) = self.rounds.iter().fold((0, 0), |(user, system), round| {
            (user + round.cpu.user, system + round.cpu.system)
        });
        Cpu {
            user,
            system,
            ..Cpu::default()
        }
        .user_share()
    }

    /// Operations per second, median.
    pub fn per_second(&self) -> f64 {
        median(
            self.rounds
                .iter()
                .map(|round| round.operations as f64 / round.elapsed.as_secs_f64().max(1e-9)),
        )
    }

    /// Share of one core the server used, median.
    pub fn busy(&self) -> f64 {
        median(
            self.rounds
                .iter()
                .map(|round| round.cpu.total() as f64 / round.elapsed.as_nanos().max(1) as f64),
        )
    }

    /// Latency at p50, p90, p99, p99.9 and the maximum in microseconds, over all rounds; none if not measured.
    pub fn latency_us(&self) -> Option<[f64; 5]> {
        let all = self.latencies();
        let at = |quantile| all.value_at_quantile(quantile) as f64 / 1e3;
        (!all.is_empty()).then(|| [at(0.5), at(0.9), at(0.99), at(0.999), all.max() as f64 / 1e3])
    }

    /// The latencies of all rounds.
    pub fn latencies(&self) -> Histogram<u64> {
        let mut all = histogram();
        for round in &self.rounds {
            let _ = all.add(&round.latency);
        }
        all
    }

    /// Median of one of the further numbers.
    pub fn extra_named(&self, name: &str) -> Option<f64> {
        self.extra()
            .into_iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// Medians of the further numbers.
    pub fn extra(&self) -> Vec<(&'static str, f64)> {
        let names = self.rounds.first().map(|round| &round.extra).into_iter().flatten();
        names
            .map(|(name, _)| {
                let values = self
                    .rounds
                    .iter()
                    .flat_map(|round| &round.extra)
                    .filter(|(other, _)| other == name);
                (*name, median(values.map(|(_, value)| *value)))
            })
            .collect()
    }
}

/// The middle value; 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (len, half) if len % 2 == 1 => values[half],
        (_, half) => f64::midpoint(values[half - 1], values[half]),
    }
}

impl CaseResult {
    /// Ratio of the medians of CPU per operation, own : other; none without that server.
    pub fn ratio(&self, other: usize) -> Option<f64> {
        let (own, other) = (self.outcomes.first()?.cpu_us(), self.outcomes.get(other)?.cpu_us());
        (other > 0.0).then(|| own / other)
    }

    /// The server of this name.
    pub fn outcome(&self, subject: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.subject == subject)
    }

    /// Throughput of two shards over that of one, each on a core of its own, if what an operation costs is all that bounds
    /// it: two cores have twice the time.
    pub fn shards_factor(&self) -> Option<f64> {
        let ratio = self.ratio(1).filter(|_| self.part == Part::Shards)?;
        Some(2.0 * ratio)
    }

    /// The same if the busier of the two shards is the bound: connections are spread by hash, not evenly.
    pub fn busier_shard_factor(&self) -> Option<f64> {
        let busiest = |at: usize| {
            let threads = self.outcomes.get(at)?.threads_us().into_iter();
            let shards = threads.filter(|(name, _)| name.starts_with("shard-")).map(|(_, us)| us);
            shards.max_by(f64::total_cmp)
        };
        let (one, two) = (busiest(0)?, busiest(1)?);
        (self.part == Part::Shards && two > 0.0).then(|| one / two)
    }

    /// The table of this case.
    pub fn table(&self) -> String {
        let mut text = format!(
            "\n{} (per {}{})\n",
            self.name,
            self.unit,
            match self.target {
                Some(target) => format!("; target {target}"),
                None => String::new(),
            }
        );
        let _ = writeln!(
            text,
            "  {:<8} {:>10} {:>17} {:>6} {:>11} {:>5} | {:>9} {:>9} {:>9} {:>9} {:>9} µs",
            "server", "CPU µs", "low..high", "user", "per s", "busy", "p50", "p90", "p99", "p99.9", "max"
        );
        for outcome in &self.outcomes {
            let (low, high) = outcome.cpu_us_range();
            let user = outcome
                .user_share()
                .map_or("-".into(), |share| format!("{:.0}%", share * 100.0));
            let _ = write!(
                text,
                "  {:<8} {:>10.3} {:>17} {:>6} {:>11.0} {:>4.0}% |",
                outcome.subject,
                outcome.cpu_us(),
                format!("{low:.3}..{high:.3}"),
                user,
                outcome.per_second(),
                outcome.busy() * 100.0
            );
            for us in outcome.latency_us().into_iter().flatten() {
                let _ = write!(text, " {us:>9.1}");
            }
            let threads: Vec<_> = outcome
                .threads_us()
                .iter()
                .map(|(name, us)| format!("{name} {us:.3}"))
                .collect();
            let _ = writeln!(text, "\n  {:<8} threads: {}", "", threads.join(", "));
            for (name, value) in outcome.extra() {
                let _ = writeln!(text, "  {:<8} {name}: {value:.2}", "");
            }
        }
        for (at, outcome) in self.outcomes.iter().enumerate().skip(1) {
            if let Some(ratio) = self.ratio(at) {
                let _ = writeln!(
                    text,
                    "  CPU {} / {}: {ratio:.3}",
                    self.outcomes[0].subject, outcome.subject
                );
            }
        }
        if let Some(factor) = self.shards_factor() {
            let _ = writeln!(text, "  throughput of two shards over one, computed: {factor:.2}");
        }
        text
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let outcomes: Vec<String> = self.outcomes.iter().map(Outcome::json).collect();
        let ratios: Vec<String> = (1..self.outcomes.len())
            .filter_map(|at| Some(format!("\"{}\": {:.4}", self.outcomes[at].subject, self.ratio(at)?)))
            .collect();
        format!(
            "{{\"case\": \"{}\", \"unit\": \"{}\", \"cpu_ratio_to\": {{{}}}, \"servers\": [{}]}}",
            self.name,
            self.unit,
            ratios.join(", "),
            outcomes.join(", ")
        )
    }
}

impl Outcome {
    fn json(&self) -> String {
        let (low, high) = self.cpu_us_range();
        let threads: Vec<_> = self
            .threads_us()
            .iter()
            .map(|(name, us)| format!("\"{name}\": {us:.4}"))
            .collect();
        let extra: Vec<_> = self
            .extra()
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value:.3}"))
            .collect();
        let latency = self.latency_us().map_or("null".into(), |us| format!("{us:.1?}"));
        let share = self.user_share().map_or("null".into(), |share| format!("{share:.3}"));
        format!(
            "{{\"server\": \"{}\", \"cpu_us\": {:.4}, \"cpu_us_low\": {low:.4}, \"cpu_us_high\": {high:.4}, \
             \"user_share\": {share}, \"per_second\": {:.1}, \"latency_us_p50_p90_p99_p999_max\": {latency}, \
             \"threads_us\": {{{}}}, \"extra\": {{{}}}}}",
            self.subject,
            self.cpu_us(),
            self.per_second(),
            threads.join(", "),
            extra.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn medians() {
        let median = |values: &[f64]| super::median(values.iter().copied());
        assert_eq!(
            (median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])),
            (0.0, 2.0, 2.5)
        );
    }
}
