//! Patterns of names, in which `*` stands for any characters and `?` for one: of included files,
//! and of the jobs that a token may see.

/// Whether a name matches a pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Where to go on when what follows the last `*` does not match here.
    let mut again: Option<(std::str::Chars, std::str::Chars)> = None;
    loop {
        let (before, rest) = (pattern.clone(), name.clone());
        match (pattern.next(), name.next()) {
            (Some('*'), _) => {
                name = rest.clone();
                again = Some((before, rest));
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            (None, None) => return true,
            (Some(_) | None, _) => {
                let Some((star, mut longer)) = again.take() else { return false };
                if longer.next().is_none() {
                    return false;
                }
                (pattern, name) = (star, longer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns() {
        for (pattern, name, matched) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml~", false),
            ("*.toml", "a.toml.toml", true),
            ("*a*b", "xaabab", true),
            ("*a*b", "xaaba", false),
            ("?", "é", true),
            ("?", "", false),
            ("??", "a", false),
            ("*", "", true),
            ("**", "a", true),
            ("a?c*", "abc", true),
            ("a?c*", "ac", false),
            ("[a]", "a", false),
            ("[a]", "[a]", true),
        ] {
            assert_eq!(matches(pattern, name), matched, "{pattern} {name}");
        }
        let stars = "*a".repeat(50) + "b";
        assert!(!matches(&stars, &"a".repeat(5000)));
    }
}
