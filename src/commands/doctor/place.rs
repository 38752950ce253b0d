//! The doctor's look at where the bot answers, and whom.

use super::{BELOW, NAMES, fail_api};
use crate::commands::check::Report;
use crate::commands::lookup::{self, Found};
use crate::config::{Allowed, Config};
use crate::mattermost::client::{ApiError, Client, unless_closed};
use crate::mattermost::{ChannelId, User, UserId};
use crate::sorted::Set;
use crate::text::counted;

/// The names of the channels that everybody of a team is in.
const DEFAULT_CHANNELS: [&str; 2] = ["town-square", "off-topic"];

/// Checks the channels and the people of the configuration.
pub(crate) struct Place<'a> {
    pub(crate) report: &'a mut Report,
    pub(crate) config: &'a Config,
    pub(crate) client: &'a Client,
    pub(crate) me: &'a User,
}

impl Place<'_> {
    pub(crate) fn check(&mut self) {
        self.check_one("channel", Place::check_channels);
        self.check_one("allowed_users", Place::check_people);
    }

    fn check_one(&mut self, name: &'static str, check: fn(&mut Self) -> Result<(), ApiError>) {
        if let Err(error) = check(self) {
            fail_api(self.report, name, &error);
        }
    }

    fn check_channels(&mut self) -> Result<(), ApiError> {
        match &self.config.mattermost.channel_id {
            Some(id) if id.is_well_formed() => self.check_channel(id)?,
            Some(name) => self.find_channel(name.as_str())?,
            None => self.check_all()?,
        }
        let mut keys = self.config.mattermost.channels.keys();
        keys.try_for_each(|key| self.check_section(key))
    }

    /// A channel's own section: it has an effect under the id of a channel.
    fn check_section(&mut self, key: &ChannelId) -> Result<(), ApiError> {
        let (bot, name) = (&self.me.username, key.as_str());
        let mut found = Vec::new();
        if !key.is_well_formed() {
            found = lookup::find_channels(self.client, name)?;
        } else if unless_closed(self.client.channel(key))?.is_some() {
            return Ok(());
        }
        let what = if found.is_empty() {
            found = lookup::team_channels(self.client)?;
            format!("is of no channel that @{bot} can see")
        } else {
            "has a name where an id belongs".to_owned()
        };
        let line = |found: &Found| {
            let (id, title) = (&found.channel.id, found.title());
            format!("\n  [channels_config.mattermost.channels.{id}]  # {title}")
        };
        let lines: String = found.iter().take(NAMES).map(line).collect();
        self.report.warn(
            "channel",
            &format!("the section channels.{name:?} {what}, so it has no effect"),
            &format!("delete it, or write a channel's id:{lines}"),
        );
        Ok(())
    }

    /// The one channel of the configuration, by its id.
    fn check_channel(&mut self, id: &ChannelId) -> Result<(), ApiError> {
        let bot = &self.me.username;
        let channel = match self.client.channel(id) {
            Ok(channel) => lookup::with_team(self.client, channel)?,
            Err(ApiError::Refused { status: 403, .. }) => {
                let detail = format!("{id} is there, but @{bot} is not in it");
                return self.fail_channel(&detail, &self.let_in());
            }
            Err(error) if error.is_closed() => return self.unknown_channel(id.as_str()),
            Err(error) => return Err(error),
        };
        self.check_membership(&channel)
    }

    fn check_membership(&mut self, found: &Found) -> Result<(), ApiError> {
        let (bot, title, channel) = (&self.me.username, found.title(), &found.channel);
        if channel.delete_at.0 > 0 {
            return self.fail_channel(
                &format!("{title} is archived: nobody can write there"),
                "unarchive it (channel menu > Unarchive Channel), or name another in channel_id",
            );
        }
        let Some(roles) = self.client.roles_in(&channel.id)? else {
            return self.fail_channel(
                &format!("@{bot} is not in {title}: it may read it, but not write there"),
                &format!("write in the channel:\n  /invite @{bot}"),
            );
        };
        let roles: Vec<&str> = roles.split(' ').chain(self.me.roles.split(' ')).collect();
        // Servers that do not tell are given the benefit of the doubt.
        let is_posting = |name: &String| name.starts_with("create_post");
        let permissions = self.client.permissions(&roles);
        if permissions.is_ok_and(|permissions| !permissions.iter().any(is_posting)) {
            return self.fail_channel(
                &format!("@{bot} is in {title}, but may not post there"),
                "a system admin allows it: System Console > User Management > Channels > the channel > Create Posts",
            );
        }
        self.report
            .ok("channel", &format!("{title}; @{bot} is in it and may post"));
        Ok(())
    }

    /// The one channel of the configuration, by anything but its id.
    fn find_channel(&mut self, text: &str) -> Result<(), ApiError> {
        let found = lookup::find_channels(self.client, text)?;
        if found.is_empty() {
            return self.unknown_channel(text);
        }
        let lines: String = found.iter().map(Found::setting).collect();
        let detail = format!("channel_id = {text:?} is a name or a link, where an id belongs");
        self.fail_channel(&detail, &format!("{BELOW}{lines}"))?;
        match &found[..] {
            [one] => self.check_membership(one),
            _ => Ok(()),
        }
    }

    fn unknown_channel(&mut self, text: &str) -> Result<(), ApiError> {
        let bot = &self.me.username;
        let user = UserId::from(text);
        let mut detail = format!("no channel {text:?} that @{bot} can see");
        if user.is_well_formed()
            && let Some(user) = self.client.users(&[&user])?.first()
        {
            detail = format!(
                "channel_id is the id of @{}, not of a channel",
                user.username
            );
        }
        let found = lookup::team_channels(self.client)?;
        let lines: String = found.iter().take(NAMES).map(Found::setting).collect();
        let fix = if lines.is_empty() {
            self.let_in()
        } else {
            format!(
                "a private channel shows itself only to its members: there, write /invite @{bot}. For one that the bot is in, {BELOW}{lines}"
            )
        };
        self.fail_channel(&detail, &fix)
    }

    /// What to do where the bot is in neither the channel nor its team.
    fn let_in(&self) -> String {
        let bot = &self.me.username;
        format!(
            "add @{bot} to the team (team menu > Invite People) and write in the channel:\n  /invite @{bot}"
        )
    }

    /// Reports what keeps the bot from answering in its channel.
    fn fail_channel(&mut self, detail: &str, fix: &str) -> Result<(), ApiError> {
        self.report.fail("channel", detail, fix);
        Ok(())
    }

    /// Without `channel_id`: wherever the bot is.
    fn check_all(&mut self) -> Result<(), ApiError> {
        let bot = &self.me.username;
        let found = lookup::channels(self.client)?;
        if found.is_empty() {
            return self.fail_channel(
                &format!("@{bot} is in no team and no channel"),
                &format!("add @{bot} to a team (team menu > Invite People), then write in a channel:\n  /invite @{bot}"),
            );
        }
        let in_teams: Vec<&Found> = found.iter().filter(|found| found.is_in_team()).collect();
        let teams: Set<&str> = in_teams.iter().map(|found| found.team.as_str()).collect();
        let names = in_teams.iter().take(NAMES);
        let mut names: Vec<String> = names
            .map(|found| format!("~{}", found.channel.name))
            .collect();
        if in_teams.len() > NAMES {
            names.push("…".into());
        }
        let names = match names.join(", ") {
            names if names.is_empty() => names,
            names => format!(" ({names})"),
        };
        let channels = counted(in_teams.len(), "channel");
        let teams = counted(teams.len(), "team");
        let others = counted(found.len() - in_teams.len(), "direct or group channel");
        self.report.ok(
            "channel",
            &format!("wherever @{bot} is: {channels}{names} of {teams}, {others}"),
        );
        self.warn_of_default_channels(&found);
        Ok(())
    }

    /// Everybody in a team is in its default channels: a bot that answers every message there is heard
    /// by all.
    fn warn_of_default_channels(&mut self, found: &[Found]) {
        let settings = &self.config.mattermost;
        let hears_all = |found: &&Found| {
            let channel = settings.channel(&found.channel.id);
            DEFAULT_CHANNELS.contains(&found.channel.name.as_str())
                && !channel.mention_only
                && channel.allowed_users != Allowed::default()
        };
        let names: Vec<String> = found.iter().filter(hears_all).map(Found::title).collect();
        if names.is_empty() {
            return;
        }
        self.report.warn(
            "channel",
            &format!(
                "it answers every message in {}, where everybody of the team is",
                names.join(" and ")
            ),
            &format!("to answer only when mentioned, {BELOW}\n  mention_only = true"),
        );
    }

    fn check_people(&mut self) -> Result<(), ApiError> {
        let settings = &self.config.mattermost;
        let channels = [&settings.defaults].into_iter();
        let channels = channels.chain(settings.channels.values());
        let (mut listed, mut everybody, mut seen) = (Vec::new(), false, Set::new());
        for channel in channels {
            match &channel.allowed_users {
                Allowed::Everybody => everybody = true,
                Allowed::These(users) => {
                    listed.extend(users.iter().filter(|user| seen.insert(*user)));
                }
            }
        }
        if everybody {
            self.report.ok(
                "allowed_users",
                match settings.defaults.allowed_users {
                    Allowed::Everybody => {
                        "everybody on this server may talk to the bot, guests too"
                    }
                    _ => "everybody may talk to the bot in some of the channels",
                },
            );
        }
        if listed.is_empty() {
            if !everybody {
                self.fail_nobody()?;
            }
            return Ok(());
        }
        self.check_list(&listed)
    }

    fn fail_nobody(&mut self) -> Result<(), ApiError> {
        let mut people_here = people(self.client, self.config.mattermost.channel_id.as_ref())?;
        if people_here.is_empty() {
            people_here = people(self.client, None)?;
        }
        let lines: String = people_here
            .iter()
            .take(NAMES)
            .map(|user| {
                format!(
                    "\n  allowed_users = [\"{}\"]  # @{}",
                    user.id, user.username
                )
            })
            .collect();
        self.report.fail(
            "allowed_users",
            "empty: nobody is answered",
            &format!("{BELOW}{lines}\n  allowed_users = [\"*\"]  # everybody"),
        );
        Ok(())
    }

    /// Whose ids these are; names in their place find the ids.
    fn check_list(&mut self, listed: &[&UserId]) -> Result<(), ApiError> {
        let mut ids = listed.to_vec();
        ids.retain(|id| id.is_well_formed());
        let known = self.client.users(&ids)?;
        let mut list = List::default();
        for &id in listed {
            let user = if id.is_well_formed() {
                known.iter().find(|user| user.id == *id).cloned()
            } else {
                lookup::find_user(self.client, id.as_str())?
            };
            match user {
                Some(user) => self.check_person(&mut list, id, &user),
                None => list.unknown.push(id.as_str()),
            }
        }
        self.report_list(&list);
        Ok(())
    }

    /// Adds a person who is listed by id or name, unless that person cannot write.
    fn check_person<'a>(&mut self, list: &mut List<'a>, id: &'a UserId, user: &User) {
        let name = &user.username;
        if !id.is_well_formed() {
            list.names.push(id.as_str());
        } else if user.delete_at.0 > 0 {
            let fix = format!("delete {id} from the list");
            let detail = format!("@{name} is deactivated");
            return self.report.warn("allowed_users", &detail, &fix);
        } else if user.id == self.me.id {
            let detail = format!("@{name} is the bot itself, which it never answers");
            return self
                .report
                .warn("allowed_users", &detail, "write the ids of people");
        } else {
            list.good.push(format!("@{name}"));
        }
        list.ids.push(user.id.to_string());
    }

    fn report_list(&mut self, list: &List) {
        if !list.names.is_empty() {
            let ids: Vec<String> = list.ids.iter().map(|id| format!("{id:?}")).collect();
            self.report.fail(
                "allowed_users",
                &match &list.names[..] {
                    [name] => format!("{name} is a name, where an id belongs: it lets nobody in"),
                    names => format!(
                        "{} are names, where ids belong: they let nobody in",
                        names.join(", ")
                    ),
                },
                &format!("{BELOW}\n  allowed_users = [{}]", ids.join(", ")),
            );
        }
        for user in &list.unknown {
            let fix = "write a person's id, or a name, and the doctor finds the id";
            let detail = format!("{user:?} is nobody on this server");
            if list.ids.is_empty() {
                self.report.fail("allowed_users", &detail, fix)
            } else {
                self.report.warn("allowed_users", &detail, fix)
            }
        }
        if !list.good.is_empty() {
            self.report.ok("allowed_users", &list.good.join(", "));
        } else if list.ids.is_empty() && list.unknown.is_empty() {
            self.report.fail(
                "allowed_users",
                "nobody who can write is in it",
                "write the ids of people",
            );
        }
    }
}

/// `allowed_users`, sorted.
#[derive(Default)]
struct List<'a> {
    /// The @names of people who can write.
    good: Vec<String>,
    /// The ids that should stand in the list.
    ids: Vec<String>,
    /// Names of people where ids belong.
    names: Vec<&'a str>,
    /// Neither a person's id nor a name.
    unknown: Vec<&'a str>,
}

/// The people, not bots, who are in `channel`, or else in the first channels that the bot is in.
pub(crate) fn people(client: &Client, channel: Option<&ChannelId>) -> Result<Vec<User>, ApiError> {
    let channels = match channel {
        Some(id) => vec![id.clone()],
        None => lookup::channels(client)?
            .into_iter()
            .take(NAMES)
            .map(|found| found.channel.id)
            .collect(),
    };
    let mut ids = Set::new();
    for channel in channels {
        ids.extend(unless_closed(client.members(&channel))?.unwrap_or_default());
    }
    let mut people = client.users(&ids.iter().collect::<Vec<_>>())?;
    people.retain(|user| !user.is_bot && user.delete_at.0 == 0);
    Ok(people)
}
