//! Accounts that were looked up: their names, and whose programs may be quoted.

use std::time::Duration;

use log::debug;

use crate::mattermost::UserId;
use crate::mattermost::client::Client;
use crate::sorted::{Map, Set};

/// Remembers accounts' names, and whose programs may be quoted.
#[derive(Default)]
pub struct Names {
    known: Map<UserId, Account>,
}

struct Account {
    name: String,
    /// It is a bot's or a system admin's.
    is_trusted: bool,
    /// When it was looked up.
    since: Duration,
}

impl Names {
    /// Cached accounts at most, and how long each stays valid.
    const COUNT: usize = 1000;
    const AGE: Duration = Duration::from_secs(3600);

    pub(super) fn get(&self, id: &UserId) -> Option<String> {
        self.known.get(id).map(|account| account.name.clone())
    }

    pub(super) fn is_trusted(&self, id: &UserId) -> bool {
        self.known.get(id).is_some_and(|account| account.is_trusted)
    }

    /// Those of `accounts` that are not known, or not lately: they are to be looked up. What is known
    /// of the others stays until the next call.
    pub(super) fn unknown(&mut self, accounts: Set<&UserId>, now: Duration) -> Vec<UserId> {
        if self.known.len() > Names::COUNT {
            self.known.clear();
        }
        let is_known = |id: &UserId| {
            let known = self.known.get(id);
            known.is_some_and(|account| now.saturating_sub(account.since) < Names::AGE)
        };
        let unknown = accounts.into_iter().filter(|id| !is_known(id));
        unknown.cloned().collect()
    }

    /// Looks them up. Without a name a person is still told apart by the id.
    pub(super) fn learn(&mut self, client: &Client, ids: &[UserId], now: Duration) {
        match client.users(&ids.iter().collect::<Vec<_>>()) {
            Ok(users) => self.known.extend(users.into_iter().map(|user| {
                let mut roles = user.roles.split_whitespace();
                let account = Account {
                    is_trusted: user.is_bot || roles.any(|role| role == "system_admin"),
                    name: user.username,
                    since: now,
                };
                (user.id, account)
            })),
            Err(error) => debug!("accounts cannot be looked up: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_is_full_is_emptied_before_it_says_who_is_known() {
        let mut names = Names::default();
        for number in 0..=Names::COUNT {
            let account = Account {
                name: "ann".into(),
                is_trusted: false,
                since: Duration::ZERO,
            };
            names
                .known
                .insert(number.to_string().as_str().into(), account);
        }
        let known: UserId = "7".into();
        let asked = || [&known].into_iter().collect();
        assert_eq!(names.unknown(asked(), Duration::ZERO).len(), 1);
        assert_eq!(names.get(&known), None);
    }
}
