//! What breaks a reader's assumptions: threads that move to another channel, and channels that are
//! shared with another server.

use super::world::{Account, World};

impl World {
    /// Moves a thread as the server does: its posts one by one, as new ones of their authors with
    /// their old props, then a reply that says so, then the old root is deleted, then a post that
    /// says where it went. The steps are `apart_ms` apart, so that a poll may come in between; the
    /// first is done at once. Gives the new ids, the root's first.
    pub fn move_thread(&mut self, root: &str, to: &str, by: &str, apart_ms: u64) -> Vec<String> {
        let thread: Vec<String> = std::iter::once(root.to_owned())
            .chain(self.replies_to(root).into_iter().map(|reply| reply.id))
            .collect();
        let copies: Vec<String> = thread.iter().map(|_| self.random.id()).collect();
        for (step, (original, copy)) in (0..).zip(thread.iter().zip(&copies)) {
            let (original, copy) = (original.clone(), copy.clone());
            let (root, to) = (copies[0].clone(), to.to_owned());
            self.do_in(step * apart_ms, move |world| {
                world.copy_post(&original, &copy, &root, &to);
            });
        }
        let (old, root, to, by) = (
            root.to_owned(),
            copies[0].clone(),
            to.to_owned(),
            by.to_owned(),
        );
        let (mover, count) = (by.clone(), copies.len());
        self.do_in(count as u64 * apart_ms, move |world| {
            let text = "This thread was moved from another channel";
            let draft = world.draft(&mover, &to, text).root(&root);
            draft.kind("system_wrangler").not_by_api().post();
        });
        let (mover, deleted) = (by.clone(), old.clone());
        self.do_in((count as u64 + 1) * apart_ms, move |world| {
            world.delete_by(&deleted, &mover)
        });
        let root = copies[0].clone();
        self.do_in((count as u64 + 2) * apart_ms, move |world| {
            let from = world.post_by_id(&old).channel_id;
            let link = world.permalink(&root);
            let text = format!("A thread with {count} messages has been moved: {link}");
            let draft = world.draft(&by, &from, &text);
            draft.kind("system_wrangler").not_by_api().post();
        });
        copies
    }

    /// At once, if there is nothing to wait for.
    fn do_in(&mut self, ms: u64, action: impl FnOnce(&mut World) + Send + 'static) {
        match ms {
            0 => action(self),
            ms => self.at(ms, action),
        }
    }

    fn copy_post(&mut self, original: &str, id: &str, root: &str, channel: &str) {
        let original = self.post_by_id(original);
        let mut draft = self.draft(&original.user_id, channel, &original.message);
        draft.post.id = id.into();
        draft.post.kind = original.kind;
        draft.post.props = original.props;
        if id != root {
            draft = draft.root(root);
        }
        for file in &original.file_ids {
            let file = draft.world.files[file].clone();
            draft = draft.file(&file.name, &file.mime_type, &file.bytes);
        }
        draft.post();
        for reaction in original.reactions {
            self.react(&reaction.user_id, id, &reaction.emoji_name);
        }
    }

    /// Connects a channel with another server; its posts come by `remote_post`.
    pub fn share(&mut self, channel: &str) {
        self.channel_mut(channel).shared = true;
    }

    /// A person of a connected server, as this one knows him: `bea:north`.
    pub fn add_remote_user(&mut self, name: &str, server: &str) -> Account {
        let account = self.add_user(&format!("{name}:{server}"));
        let remote_id = self.random.id();
        self.user_mut(&account).remote_id = remote_id;
        account
    }

    /// A post that a connected server sends over now, `ms_ago` after it was written there: all of
    /// its times lie in the past, and only the channel's count tells of it.
    pub fn remote_post(&mut self, user: &str, channel: &str, text: &str, ms_ago: u64) -> String {
        self.draft(user, channel, text)
            .created_ms_ago(ms_ago)
            .post()
    }
}
