//! Rules of style that a program can check, for the crates that keep them already. CONTRIBUTING.md has the reasons.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates that are done. A crate that is added here keeps the rules from then on.
const DONE: &[&str] = &["leasehold-renewal"];

/// A sentence that begins with a relative clause hides its subject: "What was lent …" instead of "A lease …".
#[test]
fn sentences_name_their_subject() {
    for name in DONE {
        let sentences: Vec<_> = sources(name).iter().flat_map(|file| sentences(file)).collect();
        assert!(sentences.len() > 50, "{name} has comments");
        let begin: Vec<_> = sentences.iter().filter(|sentence| begins_with_what(sentence)).collect();
        let hold: Vec<_> = sentences.iter().filter(|sentence| holds_what(sentence)).collect();
        let share = |found: usize| 100.0 * found as f64 / sentences.len() as f64;
        assert!(
            share(begin.len()) <= 1.0,
            "{name}: {:.1} % begin with What or Who: {begin:#?}",
            share(begin.len())
        );
        assert!(
            share(hold.len()) <= 2.0,
            "{name}: {:.1} % hold what or whoever: {hold:#?}",
            share(hold.len())
        );
    }
}

/// Modules that import each other cannot be read one after the other.
#[test]
fn no_modules_import_each_other_in_a_circle() {
    for name in DONE {
        let mut imports = BTreeMap::<String, BTreeSet<String>>::new();
        let root = folder(name).join("src");
        let shown = shown_by(&fs::read_to_string(root.join("lib.rs")).unwrap());
        for file in sources(name) {
            let inside = file.strip_prefix(&root).unwrap();
            let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = code(&file);
            let uses = text.split("crate::").skip(1).flat_map(first_names);
            let uses = uses.map(|name| shown.get(&name).cloned().unwrap_or(name));
            let others = uses.filter(|other| *other != module).collect::<Vec<_>>();
            imports.entry(module).or_default().extend(others);
        }
        imports.remove("lib");
        for start in imports.keys() {
            let mut reached = BTreeSet::new();
            let mut next: Vec<_> = imports[start].iter().collect();
            while let Some(module) = next.pop() {
                if let Some(further) = imports.get(module).filter(|_| reached.insert(module)) {
                    next.extend(further);
                }
            }
            assert!(!reached.contains(start), "{name}: {start} imports itself through {reached:?}");
        }
    }
}

/// A text that stands twice is changed once.
#[test]
fn no_text_of_a_log_or_an_error_stands_twice() {
    for name in DONE {
        let mut texts = BTreeMap::<String, usize>::new();
        for file in sources(name) {
            for line in code(&file).lines() {
                for literal in line.split('"').skip(1).step_by(2).filter(|literal| literal.len() >= 20) {
                    *texts.entry(literal.to_owned()).or_default() += 1;
                }
            }
        }
        texts.retain(|_, times| *times > 1);
        assert!(texts.is_empty(), "{name}: {texts:#?}");
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("crates").join(name)
}

/// The files of a crate without those that are only tests.
fn sources(name: &str) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder(name).join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            match path.extension() {
                _ if stem == "tests" => {}
                None => folders.push(path),
                Some(_) => files.push(path),
            }
        }
    }
    files.sort();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files
}

fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()
}

/// A file without its comments and its tests.
fn code(file: &Path) -> String {
    let text = without_tests(&fs::read_to_string(file).unwrap());
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The sentences of a file's comments, without code, headings and tables.
fn sentences(file: &Path) -> Vec<String> {
    let text = without_tests(&fs::read_to_string(file).unwrap());
    let (mut found, mut block, mut code) = (Vec::new(), String::new(), false);
    for line in text.lines().chain([""]) {
        let line = line.trim_start();
        let comment =
            ["///", "//!", "//"].iter().find_map(|mark| line.strip_prefix(mark)).map(str::trim_start);
        let fence = comment.is_some_and(|words| words.starts_with("```"));
        code ^= fence;
        match comment.filter(|words| !fence && !code && !words.starts_with(['#', '|'])) {
            Some(words) => {
                block.push_str(words);
                block.push(' ');
            }
            None => found.extend(split(&std::mem::take(&mut block))),
        }
    }
    found
}

/// Splits after a full stop, a question mark or an exclamation mark that is followed by the beginning of a sentence.
fn split(block: &str) -> Vec<String> {
    let (mut sentences, mut sentence) = (Vec::new(), Vec::new());
    let words: Vec<_> = block.split_whitespace().collect();
    for (index, word) in words.iter().enumerate() {
        sentence.push(*word);
        let begins =
            |next: &&str| next.starts_with(|first: char| first.is_uppercase() || "`[*".contains(first));
        if word.ends_with(['.', '?', '!']) && words.get(index + 1).is_none_or(begins) {
            sentences.push(std::mem::take(&mut sentence).join(" "));
        }
    }
    sentences.push(sentence.join(" "));
    sentences.retain(|sentence| sentence.split(' ').count() >= 3);
    sentences
}

fn begins_with_what(sentence: &str) -> bool {
    let first = sentence.split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default();
    ["What", "Who", "Whoever", "Whatever", "Whichever", "Whom", "Whose"].contains(&first)
}

fn holds_what(sentence: &str) -> bool {
    let mut words = sentence.split(|letter: char| !letter.is_alphabetic());
    words.any(|word| ["what", "whoever", "whatever", "whichever"].contains(&word))
}

/// The names that a crate's root shows, and the modules that they come from.
fn shown_by(lib: &str) -> BTreeMap<String, String> {
    let shown = lib.lines().filter_map(|line| line.strip_prefix("pub use ")?.split_once("::"));
    let names = shown.flat_map(|(module, names)| {
        let names = names.trim_matches(|letter| "{};".contains(letter)).split(", ");
        names.map(move |name| (name.to_owned(), module.to_owned()))
    });
    names.collect()
}

/// The first names after `crate::`: of `a::b` it is `a`, of `{a::b, c}` both.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(list) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut names, mut depth, mut item) = (Vec::new(), 0, String::new());
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&std::mem::take(&mut item))),
            _ => item.push(letter),
        }
    }
    names.push(name(&item));
    names
}
