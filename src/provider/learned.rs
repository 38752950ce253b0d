//! What servers turned out not to take: kept between questions, so that each is found out once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One thing learned about a model at a base URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The base URL as configured.
    pub base: String,
    /// Empty: it holds for all models of the server.
    pub model: String,
    /// What it does not take.
    pub kind: FactKind,
}

/// The things that can be learned. Facts come from strangers' servers, so nothing else is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactKind {
    /// `temperature` is refused.
    NoTemperature,
    /// `stream` is refused.
    NoStream,
    /// The largest `max_tokens` that is taken.
    MaxTokens(u32),
    /// The API is below `/v1`.
    BelowV1,
    /// The key goes into `Authorization`, although the API has another header for it.
    Bearer,
    /// Pictures are refused.
    NoImages,
    /// The role `system` is refused.
    NoSystem,
    /// Answers begin with reasoning that has a closing mark and no opening one.
    UnopenedReasoning,
}

/// Facts are forgotten after a day: servers change.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The most facts that are kept; the oldest goes first.
const KEPT: usize = 64;

/// The facts of a running program.
#[derive(Debug, Default)]
pub struct Learned {
    /// With the time of the clock at which each was learned, oldest first.
    facts: Vec<(Duration, Fact)>,
}

impl Learned {
    /// Keeps `fact`, learned at `now`.
    pub(crate) fn note(&mut self, fact: Fact, now: Duration) {
        self.forget(now);
        // One value per thing: the newer limit replaces the older one.
        let same = |old: &Fact| {
            old.base == fact.base
                && old.model == fact.model
                && std::mem::discriminant(&old.kind) == std::mem::discriminant(&fact.kind)
        };
        self.facts.retain(|(_, old)| !same(old));
        if self.facts.len() == KEPT {
            self.facts.remove(0);
        }
        self.facts.push((now, fact));
    }

    /// What is known at `now`.
    pub(crate) fn facts(&mut self, now: Duration) -> Vec<Fact> {
        self.forget(now);
        self.facts.iter().map(|(_, fact)| fact.clone()).collect()
    }

    fn forget(&mut self, now: Duration) {
        self.facts
            .retain(|(since, _)| now.saturating_sub(*since) < KEPT_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(model: &str, kind: FactKind) -> Fact {
        Fact {
            base: "http://h".into(),
            model: model.into(),
            kind,
        }
    }

    #[test]
    fn facts_are_kept_once_for_a_day_and_sixty_four_at_most() {
        let hour = Duration::from_secs(60 * 60);
        let mut learned = Learned::default();
        learned.note(fact("a", FactKind::MaxTokens(9)), Duration::ZERO);
        learned.note(fact("a", FactKind::MaxTokens(8)), hour);
        learned.note(fact("a", FactKind::NoStream), hour * 2);
        assert_eq!(
            learned.facts(hour * 24),
            [
                fact("a", FactKind::MaxTokens(8)),
                fact("a", FactKind::NoStream)
            ]
        );
        assert_eq!(
            learned.facts(hour * 25),
            [fact("a", FactKind::NoStream)],
            "a day after it was learned"
        );
        for model in 0..100 {
            learned.note(fact(&model.to_string(), FactKind::NoStream), hour * 25);
        }
        let facts = learned.facts(hour * 25);
        assert_eq!((facts.len(), facts[0].model.as_str()), (64, "36"));
    }
}
