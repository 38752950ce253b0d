//! Real pictures of any size in one colour, small on the wire, and what is known of a picture by its
//! first bytes.

/// The kinds of picture that a server looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpeg,
    Gif,
    WebP,
    Svg,
}

/// What is known of a picture: its format, and the size it is shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    pub format: Format,
    pub width: u32,
    pub height: u32,
}

/// The picture that these bytes begin, if they are one.
pub fn picture_of(bytes: &[u8]) -> Option<Picture> {
    let picture = |format, (width, height)| {
        Some(Picture {
            format,
            width,
            height,
        })
    };
    let big = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let little = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => picture(Format::Png, (big(16)?, big(20)?)),
        [0xff, 0xd8, ..] => picture(Format::Jpeg, jpeg_size(bytes)?),
        [b'G', b'I', b'F', b'8', ..] => {
            picture(Format::Gif, (little(6)?.into(), little(8)?.into()))
        }
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => {
            let sizes = u32::from_le_bytes(bytes.get(21..25)?.try_into().ok()?);
            picture(
                Format::WebP,
                ((sizes & 0x3fff) + 1, (sizes >> 14 & 0x3fff) + 1),
            )
        }
        [b'<', b's', b'v', b'g', ..] => {
            let text = std::str::from_utf8(bytes).ok()?;
            let number = |name: &str| {
                let (_, rest) = text.split_once(&format!("{name}=\""))?;
                rest.split('"').next()?.parse().ok()
            };
            picture(Format::Svg, (number("width")?, number("height")?))
        }
        _ => None,
    }
}

/// Turned by its EXIF orientation, as a viewer shows it.
fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let (mut at, mut turned) = (2, false);
    loop {
        let (marker, length) = (*bytes.get(at + 1)?, bytes.get(at + 2..at + 4)?);
        let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
        let segment = bytes.get(at + 4..at + 2 + length)?;
        match marker {
            0xe1 if segment.starts_with(b"Exif") => turned = segment.get(25) >= Some(&5),
            0xc0 => {
                let side = |at: usize| u32::from(segment[at]) << 8 | u32::from(segment[at + 1]);
                let (height, width) = (side(1), side(3));
                return Some(match turned {
                    true => (height, width),
                    false => (width, height),
                });
            }
            _ => {}
        }
        at += 2 + length;
    }
}

/// A grey PNG.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // One bit a pixel, grey, no interlacing.
    header.extend([1, 0, 0, 0, 0]);
    let rows = vec![0; (1 + width.div_ceil(8) as usize) * height as usize];
    let mut data = vec![0x78, 0x01];
    data.extend(stored(&rows));
    data.extend(adler32(&rows).to_be_bytes());
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, chunk) in [(b"IHDR", header), (b"IDAT", data), (b"IEND", Vec::new())] {
        bytes.extend((chunk.len() as u32).to_be_bytes());
        let named = [name.as_slice(), &chunk].concat();
        bytes.extend(&named);
        bytes.extend(crc32(&named).to_be_bytes());
    }
    bytes
}

/// A grey baseline JPEG.
pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    jpeg_with(width, height, &[])
}

/// A JPEG whose EXIF data say that it is to be turned by 90 degrees: shown, it is `height` wide.
pub fn jpeg_turned(width: u32, height: u32) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01".to_vec();
    // Orientation, a short: 6.
    exif.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
    jpeg_with(width, height, &segment(0xe1, &exif))
}

/// `more`: segments after the first marker.
pub(super) fn jpeg_with(width: u32, height: u32, more: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    bytes.extend(more);
    bytes.extend(segment(0xdb, &[&[0][..], &[1; 64]].concat()));
    let [w, h] = [width, height].map(|side| (side as u16).to_be_bytes());
    bytes.extend(segment(0xc0, &[8, h[0], h[1], w[0], w[1], 1, 1, 0x11, 0]));
    // Tables of a single code of one bit: no difference to the block before, and the block's end.
    for class in [0x00, 0x10] {
        let mut table = vec![class, 1];
        table.extend([0; 15]);
        table.push(0);
        bytes.extend(segment(0xc4, &table));
    }
    bytes.extend(segment(0xda, &[1, 1, 0, 0, 63, 0]));
    let bits = 2 * width.div_ceil(8) as usize * height.div_ceil(8) as usize;
    bytes.extend(vec![0; bits / 8]);
    if !bits.is_multiple_of(8) {
        bytes.push(0xff >> (bits % 8));
    }
    bytes.extend([0xff, 0xd9]);
    bytes
}

pub(super) fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&[0xff, marker], length.as_slice(), content].concat()
}

/// A black GIF of one frame.
pub fn gif(width: u16, height: u16) -> Vec<u8> {
    let [w, h] = [width.to_le_bytes(), height.to_le_bytes()];
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend([w[0], w[1], h[0], h[1], 0x80, 0, 0]);
    bytes.extend([0, 0, 0, 255, 255, 255]);
    bytes.extend([b',', 0, 0, 0, 0, w[0], w[1], h[0], h[1], 0]);
    // Codes of three bits: the table is cleared (4) before it outgrows them.
    let pixels = usize::from(width) * usize::from(height);
    let mut codes = Vec::new();
    for pixel in 0..pixels {
        if pixel % 2 == 0 {
            codes.push(4);
        }
        codes.push(0);
    }
    codes.push(5);
    let (mut packed, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for code in codes {
        bits |= code << held;
        held += 3;
        if held >= 8 {
            packed.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
    }
    packed.push(bits as u8);
    bytes.push(2);
    for block in packed.chunks(255) {
        bytes.push(block.len() as u8);
        bytes.extend(block);
    }
    bytes.extend([0, b';']);
    bytes
}

/// A black lossless WebP: its codes have one symbol each, so no pixel takes a bit.
pub fn webp(width: u32, height: u32) -> Vec<u8> {
    // Sizes, no alpha, version 0; no transform, no colour cache, no meta codes.
    let mut bits = u128::from(width - 1) | u128::from(height - 1) << 14;
    let mut held = 32 + 3;
    for _ in 0..5 {
        // A simple code of one symbol of one bit: 0.
        bits |= 1 << held;
        held += 4;
    }
    let mut data = vec![0x2f];
    data.extend(&bits.to_le_bytes()[..8]);
    data.push(0);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((4 + 8 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WEBPVP8L");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

/// Gzip without compression: other bytes, as valid.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut zipped = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    zipped.extend(stored(bytes));
    zipped.extend(crc32(bytes).to_le_bytes());
    zipped.extend((bytes.len() as u32).to_le_bytes());
    zipped
}

/// Deflate's stored blocks.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::new();
    let mut chunks = bytes.chunks(0xffff).peekable();
    while let Some(chunk) = chunks.next() {
        let length = chunk.len() as u16;
        blocks.push(u8::from(chunks.peek().is_none()));
        blocks.extend(length.to_le_bytes());
        blocks.extend((!length).to_le_bytes());
        blocks.extend(chunk);
    }
    blocks
}

fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|index| {
        (0..8).fold(index as u32, |crc, _| match crc & 1 {
            1 => crc >> 1 ^ 0xedb8_8320,
            _ => crc >> 1,
        })
    });
    let step = |crc: u32, &byte: &u8| crc >> 8 ^ table[usize::from(crc as u8 ^ byte)];
    !bytes.iter().fold(!0, step)
}

fn adler32(bytes: &[u8]) -> u32 {
    let step = |(a, b): (u32, u32), &byte: &u8| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (a + b) % 65521)
    };
    let (a, b) = bytes.iter().fold((1, 0), step);
    b << 16 | a
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            text.push(match place <= chunk.len() {
                true => ALPHABET[(bits >> (18 - 6 * place) & 63) as usize].into(),
                false => '=',
            });
        }
    }
    text
}
