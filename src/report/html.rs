//! The frame both pages share: escaped text, relative links, one style sheet, no scripts.

use std::fmt::Write;

/// Text made safe between tags and inside a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A path relative to the page as a link: `/` between its parts, everything unusual percent-encoded.
///
/// A name with a colon would read as a scheme and one with `#` or `?` would be cut, so neither may stand as it is.
pub fn link(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.replace('\\', "/").bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(byte.into()),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A picture that opens at its full size, with its description.
pub fn picture(path: &str, description: &str) -> String {
    let (path, description) = (link(path), escape(description));
    format!("<a href=\"{path}\"><img src=\"{path}\" alt=\"{description}\" loading=\"lazy\"></a>\n")
}

/// A whole page around a body that is HTML already; `title` is plain text.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Plain in any browser, light and dark; the pictures keep their white ground.
const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1f2328; --soft: #57606a; --line: #d0d7de; --ground: #ffffff; --card: #f6f8fa; --red: #c41e1e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa4ae; --line: #30363d; --ground: #0d1117; --card: #161b22; --red: #ff7b72; }
}
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px; }
h1 { font-size: 1.7rem; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .7rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
p, figcaption { color: var(--soft); overflow-wrap: anywhere; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--soft); white-space: nowrap; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px; overflow-x: auto; line-height: 1.35; }
figure { margin: 0 0 1.2rem; }
figcaption { margin-top: .4rem; font-size: .9rem; }
figcaption.wrong, .warning { color: var(--red); }
img { max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); border-radius: 6px; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_stays_text() {
        assert_eq!(escape("<b onclick='x'>\"&\"</b>"), "&lt;b onclick=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/b&gt;");
        assert!(!page("<script>", "").contains("<script>"));
    }

    #[test]
    fn a_link_holds_no_character_with_a_meaning() {
        assert_eq!(link("panels\\0001 a#b?.png"), "panels/0001%20a%23b%3F.png");
        assert_eq!(link("javascript:x\"é"), "javascript%3Ax%22%C3%A9");
    }
}
