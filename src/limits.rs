//! How many answers people got in a day: what `daily_limit` and `daily_limit_all` are held against.
//!
//! A day is the UTC day of a question's `create_at`, by the server's clock alone.

use serde::{Deserialize, Serialize};

use crate::mattermost::{ServerTime, UserId};
use crate::sorted::Map;

/// The reaction to a question over the limit of a person who knows of it already.
pub(crate) const LATER: &str = "clock12";
/// A day in milliseconds.
const DAY: u64 = 86_400_000;
/// A known day more than this many days after a question comes from a wrong clock.
const PLAUSIBLE: u64 = 31;
/// People that are counted in a day.
const PEOPLE: usize = 5000;

/// The days that are still counted, by their number since 1970: two at most.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Days(Map<u64, Count>);

#[derive(Default, Deserialize, Serialize)]
struct Count {
    all: u32,
    people: Map<UserId, OfPerson>,
}

#[derive(Default, Deserialize, Serialize)]
struct OfPerson {
    answers: u32,
    /// The person knows that the limit is reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    told: bool,
}

/// The settings; 0: no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Answers per person and day.
    pub person: u32,
    /// Answers to all people together per day.
    pub all: u32,
}

/// Whether a question gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It does; it is counted.
    Free,
    /// The person's limit is reached, and the person is to be told so.
    Spent,
    /// The limit of all people is reached, and the person is to be told so.
    AllSpent,
    /// A limit is reached, and the person knows.
    Told,
}

impl Days {
    /// Whether nothing is counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets everything: there is no limit.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Decides on a question of `person` that was written at `asked`, and counts it.
    pub(crate) fn take(&mut self, person: &UserId, asked: ServerTime, limits: Limits) -> Room {
        let day = self.day(asked);
        self.0.retain(|known, _| *known <= day + PLAUSIBLE);
        let count = self.0.or_default(day);
        let all_spent = limits.all > 0 && count.all >= limits.all;
        if !count.people.contains_key(person) {
            count.make_room();
        }
        let of_person = count.people.or_default(person.clone());
        let room = if limits.person > 0 && of_person.answers >= limits.person {
            Room::Spent
        } else if all_spent {
            Room::AllSpent
        } else {
            of_person.answers += 1;
            count.all += 1;
            Room::Free
        };
        let was_told = room != Room::Free && std::mem::replace(&mut of_person.told, true);
        let newest = self.0.keys().next_back().copied().unwrap_or(day);
        self.0.retain(|known, _| known + 1 >= newest);
        if was_told { Room::Told } else { room }
    }

    /// Takes back a question that was counted.
    pub(crate) fn give_back(&mut self, person: &UserId, asked: ServerTime) {
        let day = self.day(asked);
        if let Some(count) = self.0.get_mut(&day)
            && let Some(of_person) = count.people.get_mut(person)
        {
            of_person.answers = of_person.answers.saturating_sub(1);
            count.all = count.all.saturating_sub(1);
        }
    }

    /// The day that a question counts to: an older one than yesterday's is not known any more, and
    /// counts as yesterday's.
    fn day(&self, asked: ServerTime) -> u64 {
        let day = asked.0 / DAY;
        let plausible = self.0.keys().rfind(|known| **known <= day + PLAUSIBLE);
        plausible.map_or(day, |newest| day.max(newest.saturating_sub(1)))
    }
}

impl Count {
    /// Forgets the one who has asked least while too many people are counted.
    fn make_room(&mut self) {
        while self.people.len() >= PEOPLE {
            let least = self
                .people
                .iter()
                .min_by_key(|(_, of)| (of.told, of.answers));
            let Some(least) = least.map(|(person, _)| person.clone()) else {
                return;
            };
            self.people.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20_000 * DAY + DAY / 2;

    fn take(days: &mut Days, person: &str, at: u64, limits: (u32, u32)) -> Room {
        let (person_limit, all) = limits;
        let limits = Limits {
            person: person_limit,
            all,
        };
        days.take(&person.into(), ServerTime(at), limits)
    }

    #[test]
    fn each_person_has_a_number_of_answers_a_day_and_is_told_once() {
        use Room::*;
        let mut days = Days::default();
        let asked = [
            ("ann", NOON, Free),
            ("ann", NOON + 1, Free),
            ("ann", NOON + 2, Spent),
            ("bob", NOON + 3, Free),
            ("ann", NOON + 4, Told),
            // The next day.
            ("ann", NOON + DAY / 2, Free),
            ("ann", NOON + DAY, Free),
            ("ann", NOON + DAY, Spent),
            // A late one of the day before, and one that is far older.
            ("ann", NOON + 5, Told),
            ("bob", NOON - 9 * DAY, Free),
            ("bob", NOON - 9 * DAY, Spent),
        ];
        for (person, at, expected) in asked {
            assert_eq!(
                take(&mut days, person, at, (2, 0)),
                expected,
                "{person} {at}"
            );
        }
        assert_eq!(days.0.len(), 2);
    }

    #[test]
    fn all_people_together_have_a_number_too() {
        use Room::*;
        let mut days = Days::default();
        let asked = [
            ("ann", Free),
            ("bob", Free),
            ("ann", AllSpent),
            ("ann", Told),
            ("bob", AllSpent),
        ];
        for (person, expected) in asked {
            assert_eq!(take(&mut days, person, NOON, (0, 2)), expected, "{person}");
        }
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let mut days = Days::default();
        assert_eq!(take(&mut days, "ann", NOON, (1, 1)), Room::Free);
        days.give_back(&"ann".into(), ServerTime(NOON));
        assert_eq!(take(&mut days, "ann", NOON, (1, 1)), Room::Free);
        assert_eq!(take(&mut days, "ann", NOON, (1, 1)), Room::Spent);
    }

    #[test]
    fn a_day_far_in_the_future_does_not_stay() {
        let mut days = Days::default();
        take(&mut days, "ann", NOON + 400 * DAY, (1, 0));
        assert_eq!(take(&mut days, "ann", NOON, (1, 0)), Room::Free);
        assert_eq!(take(&mut days, "ann", NOON + DAY, (1, 0)), Room::Free);
        assert_eq!(days.0.len(), 2);
    }

    #[test]
    fn of_very_many_people_those_who_asked_least_are_forgotten() {
        let mut days = Days::default();
        for number in 0..PEOPLE + 10 {
            take(&mut days, &format!("p{number}"), NOON, (2, 0));
        }
        assert!(days.0.values().all(|count| count.people.len() <= PEOPLE));
        // Who asks is not: the limit holds for the last one, too.
        let last = format!("p{}", PEOPLE + 9);
        assert_eq!(take(&mut days, &last, NOON, (2, 0)), Room::Free);
        assert_eq!(take(&mut days, &last, NOON, (2, 0)), Room::Spent);
    }
}
