//! What the model is told: the prompt, what stood on standard input, the last posts, a picture.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use super::key::walk;
use super::{Asker, Exit, Query};
use crate::base64::encode;
use crate::config::MattermostSettings;
use crate::conversation::material;
use crate::filter;
use crate::mattermost::client::ApiError;
use crate::mattermost::client::paged;
use crate::mattermost::{Post, PostId, ServerTime, UserId};
use crate::provider::{Image, Message, Role};
use crate::sorted::{Map, Set};

/// The name under which standard input is told.
const NAME: &str = "Standard input";
/// The prompt where there is none.
const SUM_UP: &str = "Say in a few sentences what matters in this.";
/// Characters that are told of standard input where no text files are read.
const CHARS: usize = 20_000;
/// Bytes that are read at once.
const PIECE: usize = 1 << 16;

/// What comes with the question from this machine.
#[derive(Default)]
pub struct Input {
    data: Option<Data>,
    picture: Option<Picture>,
}

/// The beginning and the end of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Data {
    start: Vec<u8>,
    left_out: u64,
    end: Vec<u8>,
}

struct Picture {
    name: String,
    media_type: &'static str,
    base64: String,
}

impl Input {
    /// Reads standard input, unless it is a terminal, and the picture.
    pub(crate) fn read(settings: &MattermostSettings, query: &Query) -> Result<Input, Exit> {
        let picture = query.image.as_deref();
        let picture = picture.map(|path| Picture::read(path, settings));
        let picture = picture.transpose()?;
        let has_other = query.history > 0 || picture.is_some();
        let mut data = Data::default();
        if !io::stdin().is_terminal() {
            let most = chars(settings) * 4 + PIECE;
            data = Data::read(&mut io::stdin().lock(), most)
                .map_err(|error| Exit::Failure(format!("cannot read standard input: {error}")))?;
            if material::picture_type(&data.start).is_some() {
                let why = "standard input is a picture; name its file with --image FILE";
                return Err(Exit::Failure(why.into()));
            }
        }
        let prompt = query.prompt.as_deref().unwrap_or_default().trim();
        if prompt.is_empty() && data.start.is_empty() && !has_other {
            return Err(Exit::Config(
                "what is to be asked? Say it behind the options, in quotes".into(),
            ));
        }
        let data = Some(data).filter(|data| !data.start.is_empty() || !has_other);
        Ok(Input { data, picture })
    }

    /// What the last message's pictures are.
    pub(super) fn images<'a>(&'a self) -> Vec<Image<'a>> {
        let image = |picture: &'a Picture| Image {
            media_type: picture.media_type,
            base64: &picture.base64,
        };
        self.picture.iter().map(image).collect()
    }
}

/// How many characters are told of standard input.
fn chars(settings: &MattermostSettings) -> usize {
    match settings.file_chars {
        0 => CHARS,
        chars => chars,
    }
}

impl Data {
    /// Reads all of `from` and keeps at most `most` bytes of its beginning, and as many of its end.
    fn read(from: &mut dyn Read, most: usize) -> io::Result<Data> {
        let mut data = Data::default();
        from.take(most as u64).read_to_end(&mut data.start)?;
        let mut piece = vec![0; PIECE];
        loop {
            let count = match from.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            if count == 0 {
                break;
            }
            data.end.extend(&piece[..count]);
            if data.end.len() > 2 * most {
                data.forget(most);
            }
        }
        data.forget(most);
        if data.left_out == 0 {
            data.start.append(&mut data.end);
        } else if data.left_out % 2 == 1 {
            // It may be UTF-16.
            data.forget(data.end.len() - 1);
        }
        Ok(data)
    }

    /// Keeps the last `most` bytes of the end.
    fn forget(&mut self, most: usize) {
        let old = self.end.len().saturating_sub(most);
        self.end.drain(..old);
        self.left_out += old as u64;
    }
}

impl Picture {
    fn read(path: &Path, settings: &MattermostSettings) -> Result<Picture, Exit> {
        let (shown, limit) = (path.display(), settings.max_image_size);
        let fail = |why: &str| Exit::Failure(format!("--image {shown}: {why}"));
        if settings.max_images == 0 {
            return Err(fail(
                "max_images = 0 says that models are shown no pictures",
            ));
        }
        let is_file = fs::metadata(path).map(|file| file.is_file());
        if !is_file.map_err(|error| fail(&error.to_string()))? {
            return Err(fail("it is not a file"));
        }
        let mut bytes = Vec::new();
        let file = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        file.map_err(|error| fail(&error.to_string()))?;
        if bytes.len() as u64 > limit {
            let limit = limit >> 20;
            return Err(fail(&format!(
                "it is larger than {limit} MB (max_image_size_mb)"
            )));
        }
        let media_type = material::picture_type(&bytes)
            .ok_or_else(|| fail("it is no JPEG, PNG, GIF or WebP"))?;
        let mut base64 = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
        encode(&bytes, &mut base64);
        let name = path.file_name().unwrap_or_default();
        Ok(Picture {
            name: name.to_string_lossy().replace(char::is_control, " "),
            media_type,
            base64: String::from_utf8_lossy(&base64).into_owned(),
        })
    }
}

impl Asker<'_> {
    /// The system's message and the user's.
    pub(super) fn conversation(&self) -> Result<Vec<Message>, Exit> {
        let settings = &self.config.mattermost;
        let channel = settings.channel(&self.place.channel);
        // An open channel that the bot is not in may refuse this, and then the post.
        let place = self.client.channel(&self.place.channel).ok();
        let place = place.filter(|place| !place.is_direct() && !place.display_name.is_empty());
        let system = material::system_message(
            &self.me.username,
            place.as_ref().map(|place| place.display_name.as_str()),
            channel.system_prompt.as_deref(),
            self.clock.today(),
        );
        let prompt = self.query.prompt.as_deref().unwrap_or_default().trim();
        let mut content = match prompt {
            "" => SUM_UP.to_owned(),
            prompt => prompt.to_owned(),
        };
        if self.query.history > 0 {
            content += &self.history()?;
        }
        if let Some(data) = &self.input.data {
            let (start, left_out, end) = (&data.start, data.left_out, &data.end);
            content += &material::data(NAME, start, left_out, end, chars(settings));
        }
        let mut question = Message::new(Role::User, content);
        if let Some(picture) = &self.input.picture {
            question.content += &format!("\n\n[{}: picture 1]", picture.name);
            question.images = vec![0];
        }
        Ok(vec![Message::new(Role::System, system), question])
    }

    /// The last posts of those who may ask, in the thread or else in the channel.
    fn history(&self) -> Result<String, ApiError> {
        let settings = &self.config.mattermost;
        let allowed = &settings.channel(&self.place.channel).allowed_users;
        let mut posts: Map<(ServerTime, PostId), Post> = Map::new();
        let mut take = |page: Vec<Post>| {
            let told = |post: &Post| filter::refuse(post, &self.me, allowed).is_none();
            let page = page.into_iter().filter(told);
            posts.extend(page.map(|post| ((post.create_at, post.id.clone()), post)));
            posts.len() >= self.query.history
        };
        if self.place.root.is_empty() {
            walk(self.client, &self.place.channel, &mut take)?;
        } else {
            let mut size = self.query.history.clamp(20, 200);
            let thread = |count| self.client.thread(&self.place.root, count);
            take(paged(&mut size, thread)?.posts);
        }
        let left_out = posts.len().saturating_sub(self.query.history);
        let posts: Vec<Post> = posts
            .into_iter()
            .map(|(_, post)| post)
            .skip(left_out)
            .collect();
        let authors: Set<&UserId> = posts.iter().map(|post| &post.user_id).collect();
        let authors: Vec<&UserId> = authors.into_iter().collect();
        let users = self.client.users(&authors)?;
        let name = |id: &UserId| {
            let user = users.iter().find(|user| user.id == *id)?;
            Some(user.username.clone())
        };
        Ok(material::transcript(&posts, &name, settings.history_chars))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_of_a_stream_are_kept() {
        let bytes: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
        for (length, start, left_out, end) in [
            (0, 0, 0, 0),
            (10, 10, 0, 0),
            (150, 150, 0, 0),
            (200, 200, 0, 0),
            (250, 100, 50, 100),
            (251, 100, 52, 99),
            (200_000, 100, 199_800, 100),
        ] {
            let data = Data::read(&mut &bytes[..length], 100).expect("data");
            let expected = Data {
                start: bytes[..start].into(),
                left_out,
                end: bytes[length - end..length].into(),
            };
            assert_eq!(data, expected, "{length}");
        }
    }
}
