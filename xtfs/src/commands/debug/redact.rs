//! Takes secrets out of what is given away.

use serde_json::Value;

/// What stands for a secret.
const REMOVED: &str = "<removed>";
/// Words of names whose values are secret.
const SECRET: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "secrets",
    "token",
    "tokens",
    "credential",
    "credentials",
    "private",
    "cookie",
];

/// Whether a field of that name holds a secret: one of the words above, or a key itself (not the file or number of one).
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let words: Vec<&str> = name.split(|letter: char| !letter.is_alphanumeric()).collect();
    words.iter().any(|word| SECRET.contains(word)) || matches!(words.last(), Some(&("key" | "keys")))
}

/// Removes the values of fields that hold secrets, at any depth.
pub(super) fn value(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if is_secret(name) {
                    *field = Value::from(REMOVED);
                } else {
                    self::value(field);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(self::value),
        Value::String(text) => *text = self::text(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A configuration without its secrets; one that cannot be read is not given away at all.
pub(super) fn toml(text: &str) -> Result<String, String> {
    let mut config: Value = toml::from_str(text)
        .map_err(|error| format!("it is no TOML and may hold secrets anywhere ({})", error.message()))?;
    value(&mut config);
    toml::to_string_pretty(&config).map_err(|error| error.to_string())
}

/// Free text: private keys, and whatever follows the name of a secret and `=` or `:`.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        let begins = line.contains("-----BEGIN") && line.contains("PRIVATE KEY");
        if begins {
            out.push_str(REMOVED);
            out.push('\n');
        }
        in_key |= begins;
        if !in_key {
            out.push_str(&without_values(line));
        }
        in_key &= !(line.contains("-----END") && line.contains("PRIVATE KEY"));
    }
    out
}

/// `token=abc x` becomes `token=<removed> x`.
fn without_values(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['=', ':']) {
        let (name, behind) = rest.split_at(at + 1);
        out.push_str(name);
        rest = behind;
        let word =
            name[..at].rsplit(|letter: char| !(letter.is_alphanumeric() || "_-\"'".contains(letter))).next();
        let word = word.unwrap_or_default().trim_matches(['"', '\'']);
        // `key` alone says too little in a log: objects have keys.
        let names_one = SECRET.contains(&word.to_lowercase().as_str());
        let ends_in_one = is_secret(word) && word.contains(['_', '-']);
        if !names_one && !ends_in_one {
            continue;
        }
        let value = rest.trim_start_matches([' ', '=']);
        out.push_str(&rest[..rest.len() - value.len()]);
        let ends = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(value.trim_end().len(), |at| at + 2),
            _ => value
                .find(|letter: char| letter.is_whitespace() || ",;)}&".contains(letter))
                .unwrap_or(value.len()),
        };
        if ends > 0 {
            out.push_str(REMOVED);
        }
        rest = &value[ends..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "password",
            "db_password",
            "Token",
            "join-token",
            "private",
            "capability_key",
            "key",
            "tls.keys",
            "client_secret",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["keyring", "key_file", "monkey", "name", "tokenizer", "", "key_number"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn fields_lose_their_secrets_at_any_depth() {
        let mut config =
            json!({"a": [{"token": {"x": 1}, "b": "secret=abc d"}], "uuid": "u", "keys": ["k"], "n": null});
        value(&mut config);
        assert_eq!(
            config,
            json!({"a": [{"token": "<removed>", "b": "secret=<removed> d"}], "uuid": "u", "keys": "<removed>", "n": null})
        );
    }

    #[test]
    fn configurations_stay_configurations() {
        let text = "uuid = \"u\"\ntoken = \"abc\"\n[tls]\nkey = '''\nk\n'''\ncert_file = \"/c\"\n";
        let given: Value = toml::from_str(&toml(text).unwrap()).unwrap();
        assert_eq!(
            given,
            json!({"uuid": "u", "token": "<removed>", "tls": {"key": "<removed>", "cert_file": "/c"}})
        );
        assert!(toml("password = abc def").is_err());
    }

    #[test]
    fn logs_lose_keys_and_values() {
        let log = "INFO started token=abc123 at=x\n\
                   key: of an object\n\
                   {\"client_secret\": \"a b\", \"n\": 1}\n\
                   -----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----\nWARN password='a b' x\nprivate:\n";
        assert_eq!(
            text(log),
            "INFO started token=<removed> at=x\n\
             key: of an object\n\
             {\"client_secret\": <removed>, \"n\": 1}\n\
             <removed>\nWARN password=<removed> x\nprivate:\n"
        );
        assert_eq!(text("-----BEGIN RSA PRIVATE KEY-----\nand no end\nmore"), "<removed>\n");
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_log(any in any::<String>(), before in "[a-z =:,\"']{0,12}", secret in "[a-zA-Z0-9+/]{12,20}", after in "[ ,]?[a-z=: ]{0,8}") {
            let _ = (text(&any), text(&before));
            for name in ["token", "client_secret", "PASSWORD"] {
                for middle in ["=", ": ", "=\"", ": '"] {
                    let line = format!("{before} {name}{middle}{secret}{after}");
                    prop_assert!(!text(&line).contains(&secret), "{line} -> {}", text(&line));
                }
            }
        }
    }
}
