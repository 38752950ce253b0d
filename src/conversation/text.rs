//! What a file's bytes are, whatever its name says, and the text in them; and how a long text is cut.

/// What a file is by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A picture of this media type, which models take.
    Picture(&'static str),
    /// A picture of this kind, which they do not take.
    OtherPicture(&'static str),
    /// It is neither, but this.
    Other(&'static str),
    Unknown,
}

/// The first bytes of files that are no text, though some look like one.
const SIGNATURES: [(&[u8], Kind); 19] = [
    (b"\x89PNG\r\n\x1a\n", Kind::Picture("image/png")),
    (b"\xFF\xD8\xFF", Kind::Picture("image/jpeg")),
    (b"GIF87a", Kind::Picture("image/gif")),
    (b"GIF89a", Kind::Picture("image/gif")),
    (b"\x89PNG", Kind::Other("a damaged PNG")),
    (b"II*\0", Kind::OtherPicture("TIFF")),
    (b"MM\0*", Kind::OtherPicture("TIFF")),
    (b"8BPS", Kind::OtherPicture("Photoshop")),
    (b"%PDF-", Kind::Other("a PDF")),
    (
        b"PK\x03\x04",
        Kind::Other("a ZIP archive or an office document"),
    ),
    (
        b"\xD0\xCF\x11\xE0",
        Kind::Other("an office document of the old kind"),
    ),
    (b"\x1F\x8B", Kind::Other("a gzip archive")),
    (b"BZh", Kind::Other("a bzip2 archive")),
    (b"\xFD7zXZ\0", Kind::Other("an xz archive")),
    (b"\x28\xB5\x2F\xFD", Kind::Other("a zstd archive")),
    (b"7z\xBC\xAF", Kind::Other("a 7z archive")),
    (b"Rar!\x1A", Kind::Other("a RAR archive")),
    (b"\x7FELF", Kind::Other("a program")),
    (b"OggS", Kind::Other("a sound or a film")),
];

/// What a file is whose first bytes these are. Pictures are known by 16 of them.
pub(super) fn kind(bytes: &[u8]) -> Kind {
    let known = SIGNATURES
        .iter()
        .find(|(signature, _)| bytes.starts_with(signature));
    if let Some((_, kind)) = known {
        return *kind;
    }
    if let Some(kind) = container(bytes) {
        return kind;
    }
    // A bitmap says its own size, and four bytes of nothing follow.
    if bytes.starts_with(b"BM") && bytes.get(6..10) == Some(&[0; 4]) {
        return Kind::OtherPicture("BMP");
    }
    // A version follows, of which there are four; a table may begin with the same letters.
    if bytes.starts_with(b"ID3") && bytes.get(3).is_some_and(|version| *version < 5) {
        return Kind::Other("a sound");
    }
    if is_text(bytes) {
        Kind::Text
    } else {
        Kind::Unknown
    }
}

/// Files that begin with a length and say their kind after it.
fn container(bytes: &[u8]) -> Option<Kind> {
    let (head, brand) = (bytes.get(..12)?, &bytes[8..12]);
    Some(match (&head[..4], &head[4..8]) {
        (b"RIFF", _) if brand == b"WEBP" => Kind::Picture("image/webp"),
        (b"RIFF", _) => Kind::Other("a sound or a film"),
        (_, b"ftyp") => match brand {
            b"avif" | b"avis" => Kind::OtherPicture("AVIF"),
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"mif1" | b"msf1" => {
                Kind::OtherPicture("HEIC")
            }
            _ => Kind::Other("a sound or a film"),
        },
        _ => return None,
    })
}

/// Whether a person would call it text: in UTF-16 by its mark; in UTF-8, or else in a code page of one
/// byte a character, without the control characters that no text has. NULs do not count: what a log's
/// rotation leaves of it begins with many.
fn is_text(bytes: &[u8]) -> bool {
    if utf16(bytes).is_some() {
        return true;
    }
    let without_nulls = || bytes.iter().copied().filter(|&byte| byte != 0);
    let (length, controls) = (
        without_nulls().count(),
        without_nulls().filter(|&byte| is_control(byte)).count(),
    );
    let is_whole_utf8 = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // Its last character may be cut.
        Err(error) => error.error_len().is_none(),
    };
    if is_whole_utf8 {
        length > 0 && controls * 50 <= length
    } else {
        length > 0 && controls == 0 && high(bytes) * 2 <= length
    }
}

/// Bytes of no ASCII character.
fn high(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !byte.is_ascii()).count()
}

/// Not tabs, line ends, form feeds, backspaces, nor the escapes by which programs colour their output.
fn is_control(byte: u8) -> bool {
    byte == 0x7F || byte < 0x20 && !matches!(byte, 8..=13 | 27)
}

/// The order of the bytes of UTF-16, if the text begins with its mark.
fn utf16(bytes: &[u8]) -> Option<fn([u8; 2]) -> u16> {
    match bytes {
        [0xFF, 0xFE, ..] => Some(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => Some(u16::from_be_bytes),
        _ => None,
    }
}

/// The text in a file of which `start` and, where something between is missing, `end` were read; at an
/// even place, so that it can be UTF-16. An end that is no text is empty.
pub(super) fn decode(start: &[u8], end: &[u8]) -> (String, String) {
    if let Some(unit) = utf16(start) {
        let text = |bytes: &[u8]| {
            let units: Vec<u16> = bytes
                .chunks_exact(2)
                .map(|pair| unit([pair[0], pair[1]]))
                .collect();
            tidy(&String::from_utf16_lossy(&units))
        };
        return (text(&start[2..]), text(end));
    }
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start);
    // The first bytes may be the rest of a character.
    let rest = end.iter().take(3).take_while(|&&byte| byte & 0xC0 == 0x80);
    let end = match &end[rest.count()..] {
        end if is_text(end) => one_byte_or_utf8(end),
        _ => String::new(),
    };
    (one_byte_or_utf8(start), end)
}

/// UTF-8, and what is none of it as Windows-1252, which has Latin-1's letters: logs have both.
fn one_byte_or_utf8(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        // At the end it may be a character that was cut.
        let is_cut = chunks.peek().is_none()
            && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none())
            && chunk.invalid().len() > 1;
        if !is_cut {
            text.extend(chunk.invalid().iter().map(|&byte| windows_1252(byte)));
        }
    }
    tidy(&text)
}

fn windows_1252(byte: u8) -> char {
    const FROM_80: [char; 32] = [
        '€', '\u{FFFD}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{FFFD}', 'Ž',
        '\u{FFFD}', '\u{FFFD}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ',
        '\u{FFFD}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9F => FROM_80[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// Without NULs, its lines ended by `\n` alone.
fn tidy(text: &str) -> String {
    text.replace('\0', "").replace("\r\n", "\n")
}

/// `3 KB` and the like.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_064 => format!("{} KB", (bytes + 512) / 1024),
        _ => format!("{} MB", bytes.saturating_add(1 << 19) >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let marked = format!("\u{FEFF}{text}");
        marked.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn the_bytes_say_what_a_file_is() {
        use Kind::*;
        let bmp = b"BM\x36\x10\0\0\0\0\0\0\x36\0".as_slice();
        for (what, bytes, expected) in [
            (
                "a PNG",
                b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(),
                Picture("image/png"),
            ),
            (
                "a JPEG",
                b"\xFF\xD8\xFF\xE0\0\x10JFIF",
                Picture("image/jpeg"),
            ),
            ("a GIF", b"GIF89a\x40\x01", Picture("image/gif")),
            ("a WebP", b"RIFF\x24\0\0\0WEBPVP8 ", Picture("image/webp")),
            ("an AVIF", b"\0\0\0\x1cftypavif", OtherPicture("AVIF")),
            ("a HEIC", b"\0\0\0\x18ftypheic", OtherPicture("HEIC")),
            ("a BMP", bmp, OtherPicture("BMP")),
            ("a TIFF", b"II*\0\x08\0\0\0", OtherPicture("TIFF")),
            (
                "a PNG's beginning",
                b"\x89PNG\0\0\0",
                Other("a damaged PNG"),
            ),
            (
                "a WAV",
                b"RIFF\x24\0\0\0WAVEfmt ",
                Other("a sound or a film"),
            ),
            ("an MP3", b"ID3\x04\0\0\0\0", Other("a sound")),
            ("a CSV", b"ID3,name\n", Text),
            ("an MP4", b"\0\0\0\x18ftypisom", Other("a sound or a film")),
            (
                "a PDF",
                b"%PDF-1.7\n%\xE2\xE3\xCF\xD3\n1 0 obj",
                Other("a PDF"),
            ),
            (
                "an SVG",
                b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
                Text,
            ),
            ("a minute of the board", b"BM 12: minutes", Text),
            ("a log in colour", b"\x1b[31mERROR\x1b[0m disk full\n", Text),
            (
                "a log with one stray sign",
                &[b"all is well ".repeat(9), vec![1]].concat(),
                Text,
            ),
            ("words of one byte each", b"K\xF6ln;1,50 \x80\r\n", Text),
            (
                "NULs and then text",
                &[vec![0; 4096], b"started\n".to_vec()].concat(),
                Text,
            ),
            ("NULs alone", &[0; 64], Unknown),
            ("nothing", b"", Unknown),
            (
                "random bytes",
                b"\x13\x9a\x02\xe5zq\x07\xc4\x88\x91\x1f",
                Unknown,
            ),
            ("many high bytes", b"\xE5\xF1\x9Ab\xFC\xA3", Unknown),
            (
                "a cut character",
                "naïve é".as_bytes().split_last().unwrap().1,
                Text,
            ),
            ("UTF-16", &utf16_of("Köln", u16::to_le_bytes), Text),
        ] {
            assert_eq!(kind(bytes), expected, "{what}");
        }
    }

    #[test]
    fn a_text_is_read_as_people_see_it() {
        for (what, bytes, expected) in [
            (
                "UTF-8",
                "Köln\r\n1,50 €".as_bytes().to_vec(),
                "Köln\n1,50 €",
            ),
            ("UTF-8 with a mark", "\u{FEFF}Köln".into(), "Köln"),
            (
                "UTF-16, little end first",
                utf16_of("Köln €", u16::to_le_bytes),
                "Köln €",
            ),
            (
                "UTF-16, big end first",
                utf16_of("Köln 😀", u16::to_be_bytes),
                "Köln 😀",
            ),
            (
                "Windows-1252",
                b"K\xF6ln;1,50 \x80 \x93x\x94".to_vec(),
                "Köln;1,50 € “x”",
            ),
            ("both", b"K\xF6ln, K\xC3\xB6ln\n".to_vec(), "Köln, Köln\n"),
            ("it ends in a letter", b"caf\xE9".to_vec(), "café"),
            ("NULs", [vec![0; 4096], b"on\n".to_vec()].concat(), "on\n"),
            ("UTF-16 without a mark", b"P\0S\0>\0".to_vec(), "PS>"),
        ] {
            assert_eq!(decode(&bytes, b"").0, expected, "{what}");
        }
    }

    #[test]
    fn start_and_end_may_be_cut_in_a_character() {
        let (start, end) = decode(b"na\xC3\xAFve \xE2\x82", b"\x82\xAC 5\n");
        assert_eq!((start.as_str(), end.as_str()), ("naïve ", " 5\n"));
        let whole = utf16_of("start", u16::to_le_bytes);
        let (start, end) = decode(&whole, b"e\0n\0d\0");
        assert_eq!((start.as_str(), end.as_str()), ("start", "end"));
        assert_eq!(decode(b"text", b"\x01\x02\x03\x04").1, "");
    }
}
