//! Files: what their names and first bytes say of them, and how they are served.

use std::time::{Duration, SystemTime};

use super::Version;
use super::api::{Answer, Call, Result, Served, forbidden, refusal};
use super::picture::{Format, Picture, gzip, jpeg_with, picture_of, png, segment};
use super::world::File;

/// Shorter bodies are not compressed.
const GZIP_MIN: usize = 1400;
/// A picture's preview is at most this wide.
const PREVIEW_WIDTH: u32 = 1920;
/// How long 11.6 goes on giving a deleted post's file to those who have not read it yet.
const LINGERS_MS: u64 = 20;

/// What the server's program knows by itself.
const BUILT_IN: [(&str, &str); 19] = [
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("html", "text/html; charset=utf-8"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("webp", "image/webp"),
    ("xml", "text/xml; charset=utf-8"),
    ("zip", "application/zip"),
];

/// What the tables of most machines add to it.
const OF_TABLES: [(&str, &str); 9] = [
    ("log", "text/x-log; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("py", "text/x-python; charset=utf-8"),
    ("rs", "text/rust; charset=utf-8"),
    ("sh", "application/x-shellscript"),
    ("sql", "application/sql"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("yaml", "application/x-yaml"),
];

/// The part of a name after its last dot, in lower case.
pub(super) fn extension_of(name: &str) -> String {
    let parts = name.rsplit_once('.');
    parts.map_or(String::new(), |(_, end)| end.to_lowercase())
}

/// The mime type that a server with, or without, its machine's tables takes from a file's name.
pub(super) fn mime_type_of(name: &str, with_tables: bool) -> String {
    let extension = extension_of(name);
    let of_tables = OF_TABLES.iter().filter(|_| with_tables);
    let mut known = BUILT_IN.iter().chain(of_tables);
    let found = known.find(|(known, _)| *known == extension);
    found.map_or(String::new(), |(_, mime_type)| (*mime_type).into())
}

impl File {
    /// What the server finds out about it, if it takes it for a picture.
    pub(super) fn picture(&self) -> Option<Picture> {
        let is_image = self.mime_type.starts_with("image/");
        is_image.then(|| picture_of(&self.bytes)).flatten()
    }

    pub(super) fn has_preview(&self) -> bool {
        let picture = self.picture();
        picture.is_some_and(|picture| picture.format != Format::Svg)
    }

    fn content_type(&self) -> &str {
        match self.mime_type.split(';').next().unwrap_or_default() {
            "" => "application/octet-stream",
            "text/html" | "text/javascript" => "text/plain",
            _ => &self.mime_type,
        }
    }

    fn disposition(&self, part: Part, version: Version, download: bool) -> String {
        let shown = match extension_of(&self.name).as_str() {
            _ if part != Part::Whole => true,
            "png" | "jpg" | "gif" | "bmp" | "tiff" => true,
            "webp" => version == Version::V11_6,
            _ => false,
        };
        let how = match shown && !download {
            true => "inline",
            false => "attachment",
        };
        let name = escaped(&self.name);
        format!("{how};filename=\"{name}\"; filename*=UTF-8''{name}")
    }
}

fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let bytes = name.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    bytes.collect()
}

/// Which of a file's bytes are asked for.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Whole,
    Preview,
    Thumbnail,
}

impl Part {
    fn bytes(self, file: &File, version: Version) -> Result<Vec<u8>> {
        let picture = file.picture().filter(|_| file.has_preview());
        match (self, picture) {
            (Part::Whole, _) => Ok(file.bytes.clone()),
            (Part::Preview, Some(picture)) => Ok(preview(picture, preview_size(picture), version)),
            (Part::Thumbnail, Some(picture)) => {
                Ok(preview(picture, thumbnail_size(picture, version), version))
            }
            (Part::Preview, None) => Err(refusal(
                400,
                "api.file.get_file_preview.no_preview.app_error",
                "File doesn't have a preview image.",
            )),
            (Part::Thumbnail, None) => Err(refusal(
                400,
                "api.file.get_file_thumbnail.no_thumbnail.app_error",
                "File doesn't have a thumbnail image.",
            )),
        }
    }
}

/// A JPEG, said to be one and so; of a PNG, 11.6 makes a PNG that it says is a JPEG.
fn preview(picture: Picture, (width, height): (u32, u32), version: Version) -> Vec<u8> {
    match (picture.format, version) {
        (Format::Png, Version::V11_6) => png(width, height),
        _ => jpeg_with(width, height, &[]),
    }
}

fn preview_size(picture: Picture) -> (u32, u32) {
    match picture.width > PREVIEW_WIDTH {
        true => scaled(picture, (PREVIEW_WIDTH, picture.width)),
        false => (picture.width, picture.height),
    }
}

/// 11.6 makes it fit into 120 by 100, also larger; 5.37 one of the sides.
fn thumbnail_size(picture: Picture, version: Version) -> (u32, u32) {
    let (width, height) = (picture.width, picture.height);
    let flat = height * 120 < width * 100;
    match version {
        Version::V5_37 if width < 120 && height < 100 => (width, height),
        Version::V5_37 if flat => scaled(picture, (100, height)),
        Version::V11_6 if !flat => scaled(picture, (100, height)),
        _ => scaled(picture, (120, width)),
    }
}

fn scaled(picture: Picture, (to, of): (u32, u32)) -> (u32, u32) {
    let side = |side: u32| ((side * to + of / 2) / of).max(1);
    (side(picture.width), side(picture.height))
}

/// The tiny JPEG in a picture's metadata: as large as the real ones.
pub(super) fn mini_preview() -> Vec<u8> {
    jpeg_with(16, 16, &segment(0xfe, &[b' '; 600]))
}

impl Call<'_> {
    pub(super) fn file(&mut self, id: &str) -> Result<Served> {
        self.serve_file(id, Part::Whole)
    }

    pub(super) fn file_preview(&mut self, id: &str) -> Result<Served> {
        self.serve_file(id, Part::Preview)
    }

    pub(super) fn file_thumbnail(&mut self, id: &str) -> Result<Served> {
        self.serve_file(id, Part::Thumbnail)
    }

    fn serve_file(&mut self, id: &str, part: Part) -> Result<Served> {
        self.check_id("file_id", id)?;
        let file = self.readable_file(id, part)?;
        let bytes = part.bytes(&file, self.world.version)?;
        let answer = self.file_answer(&file, part, bytes);
        let knobs = &self.world.knobs;
        let length = answer.body.len() as u64;
        let sending_ms = knobs
            .file_bytes_per_sec
            .map_or(0, |each| length * 1000 / each);
        match knobs.file_takes_ms + sending_ms {
            0 => Ok(Served::Answer(answer)),
            ms => {
                let at_ms = self.world.elapsed_ms() + ms;
                Ok(Served::Later(at_ms, Box::new(move |_| answer)))
            }
        }
    }

    fn readable_file(&mut self, id: &str, part: Part) -> Result<File> {
        let (now, version) = (self.world.now(), self.world.version);
        let gone = (
            "app.file_info.get.app_error",
            "Unable to get the file info.",
        );
        let Some(file) = self.world.files.get(id).cloned() else {
            let (id, message) = match version {
                Version::V5_37 => gone,
                Version::V11_6 => (
                    "api.file.get_file_info.app_error",
                    "Failed to get file info.",
                ),
            };
            return Err(refusal(404, id, message));
        };
        let kept = version == Version::V11_6
            && part == Part::Whole
            && (file.was_read || now < file.delete_at + LINGERS_MS);
        if file.delete_at > 0 && !kept {
            return Err(refusal(404, gone.0, gone.1));
        }
        let channel = &self.world.channels[&file.channel_id];
        let may = match version {
            Version::V5_37 => !file.post_id.is_empty() && channel.members.contains_key(self.user),
            Version::V11_6 => self.may_read(channel),
        };
        if !may && file.user_id != self.user {
            return Err(forbidden());
        }
        if part == Part::Whole
            && let Some(read) = self.world.files.get_mut(id)
        {
            read.was_read = true;
        }
        Ok(file)
    }

    /// With the headers, whole or in part, compressed or not.
    fn file_answer(&self, file: &File, part: Part, bytes: Vec<u8>) -> Answer {
        let version = self.world.version;
        let (cached, modified) = (
            match version {
                Version::V5_37 => "private, no-cache",
                Version::V11_6 => "private, max-age=86400",
            },
            httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(file.create_at)),
        );
        let content_type = match part {
            Part::Whole => file.content_type(),
            // Whatever it is.
            Part::Preview | Part::Thumbnail => "image/jpeg",
        };
        let download = self.parameter("download") == Some("1");
        let mut answer = Answer {
            status: 200,
            headers: Vec::new(),
            body: bytes,
            by_handler: true,
        };
        answer.add(
            "Content-Disposition",
            &file.disposition(part, version, download),
        );
        let header = |name: &str| self.request.headers.get(name).map(String::as_str);
        if header("if-modified-since") == Some(&modified) {
            answer.status = 304;
            answer.body.clear();
            answer.add("Cache-Control", cached);
            answer.add("Last-Modified", &modified);
            return answer;
        }
        let range = header("range").and_then(|range| range_of(range, answer.body.len()));
        let zips = header("accept-encoding").is_some_and(|codings| codings.contains("gzip"));
        answer.send_part(range, zips, content_type, version);
        if answer.status != 416 || version == Version::V5_37 {
            answer.add("Cache-Control", cached);
            answer.add("Last-Modified", &modified);
        }
        answer
    }
}

impl Answer {
    /// Leaves of the body what is asked for, packed if `zips`.
    fn send_part(
        &mut self,
        range: Option<Option<(usize, usize)>>,
        zips: bool,
        content_type: &str,
        version: Version,
    ) {
        let length = self.body.len();
        let packs = range.is_none() && zips && length >= GZIP_MIN;
        if range == Some(None) {
            self.status = 416;
            self.body = b"invalid range: failed to overlap\n".into();
            self.add("Content-Type", "text/plain; charset=utf-8");
            self.add("Content-Range", &format!("bytes */{length}"));
            return;
        }
        self.add("Content-Type", content_type);
        if packs {
            self.body = gzip(&self.body);
            self.add("Content-Encoding", "gzip");
        }
        if !packs || version == Version::V5_37 {
            self.add("Accept-Ranges", "bytes");
        }
        if let Some(Some((first, last))) = range {
            self.status = 206;
            self.body = self.body[first..=last].into();
            self.add("Content-Range", &format!("bytes {first}-{last}/{length}"));
        }
    }
}

/// The first and last byte of a single range; `Some(None)` for one beyond the end.
fn range_of(header: &str, length: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1)?;
    let range = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, last.min(end)),
        (Ok(first), Err(_)) => (first, end),
        (Err(_), Ok(count)) => (length.saturating_sub(count), end),
        (Err(_), Err(_)) => return None,
    };
    Some((range.0 <= end && range.0 <= range.1).then_some(range))
}
