//! Rust text with comments and literals blanked, so that a rule about code does not fire on prose.

/// The same text, line for line, with every comment, string and character literal replaced by spaces.
pub(crate) fn only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !continues_word(bytes, at) => raw_string_end(bytes, at).unwrap_or(at),
            b'\'' => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end > at {
            out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(if bytes[at].is_ascii() { bytes[at] as char } else { ' ' });
            at += 1;
        }
    }
    out
}

/// What stands before the tests of a file (`#[cfg(test)]` followed by an inline module), blanked.
pub(crate) fn without_tests(text: &str) -> String {
    let code = only(text);
    let cut = code.match_indices("#[cfg(test)]").find(|(at, mark)| {
        let item = code[at + mark.len()..].trim_start();
        item.starts_with("mod ") && item.find(['{', ';']).is_some_and(|at| item[at..].starts_with('{'))
    });
    match cut {
        Some((at, _)) => code[..at].to_owned(),
        None => code,
    }
}

/// Line numbers (1-based) on which `word` stands as a whole word.
pub(crate) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    code.lines()
        .enumerate()
        .filter(|(_, line)| line.match_indices(word).any(|(at, _)| is_whole(line, at, word)))
        .map(|(number, _)| number + 1)
        .collect()
}

/// Whether the occurrence of `word` at `at` is not a part of a longer word.
fn is_whole(line: &str, at: usize, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let before = line[..at].chars().next_back().is_some_and(in_word);
    let after = line[at + word.len()..].chars().next().is_some_and(in_word);
    let longer_left = before && word.starts_with(in_word);
    let longer_right = after && word.ends_with(in_word);
    !longer_left && !longer_right
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |len| at + len)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut next) = (0usize, at);
    while next < bytes.len() {
        match &bytes[next..bytes.len().min(next + 2)] {
            b"/*" => (depth, next) = (depth + 1, next + 2),
            b"*/" if depth == 1 => return next + 2,
            b"*/" => (depth, next) = (depth - 1, next + 2),
            _ => next += 1,
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while next < bytes.len() {
        match bytes[next] {
            b'\\' => next += 2,
            b'"' => return next + 1,
            _ => next += 1,
        }
    }
    bytes.len()
}

/// `r"..."`, `r#"..."#`; `None` where the `r` starts something else.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = at + 2 + hashes;
    let len = bytes[body..].windows(close.len()).position(|window| window == close)?;
    Some(body + len + close.len())
}

/// A character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        let close = bytes[at + 3..].iter().position(|byte| *byte == b'\'')?;
        return Some(at + 3 + close + 1);
    }
    // One character of up to four bytes, then the closing quote.
    let width = match bytes.get(at + 1)? {
        first if *first < 0x80 => 1,
        first if *first < 0xe0 => 2,
        first if *first < 0xf0 => 3,
        _ => 4,
    };
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + 2 + width)
}

/// Whether the byte at `at` is inside a word that began before it (`br"..."` counts as the start of one).
fn continues_word(bytes: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|at| bytes[at]) else { return false };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if before == b'b' || before == b'c' {
        return at >= 2 && word(bytes[at - 2]);
    }
    word(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_go_and_lines_stay() {
        let text =
            "let a = \"todo!()\"; // todo!()\nlet b = 'x'; /* dbg!( /* nested */ */ todo!();\nr#\"dbg!(\"#;";
        let code = only(text);
        assert_eq!(code.lines().count(), 3);
        assert_eq!(lines_with(&code, "todo!"), [2]);
        assert!(lines_with(&code, "dbg!").is_empty());
    }

    #[test]
    fn lifetimes_are_no_characters() {
        let code = only("fn f<'a>(x: &'a str) -> &'a str { dbg!(x) } // '\n'\\''; '\u{e9}'; todo!()");
        assert_eq!(lines_with(&code, "dbg!"), [1]);
        assert_eq!(lines_with(&code, "todo!"), [2]);
    }

    #[test]
    fn words_are_whole() {
        let code = only("my_async(); async fn x() {}\nasynchronous();\nrt::x(); start::y();");
        assert_eq!(lines_with(&code, "async"), [1]);
        assert_eq!(lines_with(&code, "rt::"), [3]);
        assert!(lines_with(&only("start::y()"), "rt::").is_empty());
    }

    #[test]
    fn tests_are_cut_off_but_a_test_file_named_by_a_module_line_is_not_the_end() {
        let text =
            "#[cfg(test)]\nmod write_test;\nfn a() { todo!() }\n#[cfg(test)]\nmod tests {\n dbg!(1); }";
        let code = without_tests(text);
        assert_eq!(lines_with(&code, "todo!"), [3]);
        assert!(lines_with(&code, "dbg!").is_empty());
    }
}
