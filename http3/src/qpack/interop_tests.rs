//! What other stacks' encoders wrote (the qpackers/qifs collection), decoded here and compared with the text it was made from.
//!
//! The collection is not part of the project: `WEALD_QIFS` names its folder, and without it the tests say that they skip.

use std::{fs, path::PathBuf};

use super::{Field, decoder, encoder::SectionWriter};

fn collection() -> Option<PathBuf> {
    let folder = std::env::var_os("WEALD_QIFS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: WEALD_QIFS does not name a copy of the qpackers/qifs collection");
    }
    folder
}

/// Header lists of a `.qif` file: `name<TAB>value` a line, an empty line after each list.
fn lists(text: &str) -> Vec<Vec<Field>> {
    let mut lists = Vec::new();
    let mut list = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')).chain([""]) {
        match line.split_once('\t') {
            Some((name, value)) => list.push(Field { name: name.into(), value: value.into() }),
            None if list.is_empty() => {}
            None => lists.push(std::mem::take(&mut list)),
        }
    }
    lists
}

/// Records of an encoded file: stream id (8 bytes), length (4 bytes), data.
fn records(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(12);
        let length = u32::from_be_bytes(head[8..].try_into().unwrap()) as usize;
        let (data, rest) = rest.split_at(length);
        records.push((u64::from_be_bytes(head[..8].try_into().unwrap()), data));
        bytes = rest;
    }
    records
}

#[test]
fn output_of_other_encoders_without_a_table_decodes_to_its_source() {
    let Some(folder) = collection() else { return };
    let mut compared = 0;
    for stack in fs::read_dir(folder.join("encoded/qpack-05")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for file in fs::read_dir(stack).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let Some((source, "0.0.0" | "0.0.1" | "0.100.0" | "0.100.1")) = name.split_once(".out.") else { continue };
            let expected = lists(&fs::read_to_string(folder.join(format!("qifs/{source}.qif"))).unwrap());
            let bytes = fs::read(&file).unwrap();
            let mut sections: Vec<_> = records(&bytes).into_iter().filter(|(stream, _)| *stream != 0).collect();
            sections.sort_by_key(|(stream, _)| *stream);
            assert_eq!(sections.len(), expected.len(), "{name}");
            for ((stream, section), fields) in sections.into_iter().zip(expected) {
                assert_eq!(decoder::decode(section, u64::MAX).as_ref(), Ok(&fields), "{name}, stream {stream}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 900, "only {compared} sections found; is WEALD_QIFS the whole collection?");
}

#[test]
fn real_headers_survive_this_encoder() {
    let Some(folder) = collection() else { return };
    for file in fs::read_dir(folder.join("qifs")).unwrap().map(|entry| entry.unwrap().path()) {
        for fields in lists(&fs::read_to_string(&file).unwrap()) {
            let mut section = SectionWriter::new();
            for field in &fields {
                section.field(&field.name, &field.value, false);
            }
            assert_eq!(decoder::decode(&section.into_bytes(), u64::MAX), Ok(fields), "{file:?}");
        }
    }
}

#[test]
fn streams_that_a_decoder_must_refuse_are_refused() {
    let Some(folder) = collection() else { return };
    for file in fs::read_dir(folder.join("encoded/errors")).unwrap().map(|entry| entry.unwrap().path()) {
        // These refer to entries 0 and 62 of the static table, which are there in the table that RFC 9204 settled on (appendix A).
        if file.ends_with("err9") || file.ends_with("err10") {
            continue;
        }
        let bytes = fs::read(&file).unwrap();
        let refused = records(&bytes).into_iter().any(|(stream, data)| match stream {
            0 => super::instructions::EncoderStream::default().on_bytes(data).is_err(),
            _ => decoder::decode(data, u64::MAX).is_err(),
        });
        assert!(refused, "{file:?}");
    }
}
