//! `report.html`: one run on one page.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::gallery::{self, Entry};
use super::{html, write_whole};

/// What stands on the page, in this order; whatever is empty is left out. All text is plain, all paths are relative to the page.
#[derive(Clone, Debug, Default)]
pub struct Page<'a> {
    /// The heading.
    pub title: &'a str,
    /// One sentence under the title, such as the accuracy reached.
    pub summary: &'a str,
    /// What the reader should know before believing the numbers.
    pub warnings: &'a [String],
    /// Names and values, in the order to show them.
    pub settings: &'a [(String, String)],
    /// The history chart's file.
    pub history: Option<&'a str>,
    /// The confusion heatmap's file.
    pub confusion: Option<&'a str>,
    /// The classification report, shown as it is.
    pub report: &'a str,
    /// The first panels.
    pub panels: &'a [Entry],
    /// The page with all panels.
    pub gallery: Option<&'a str>,
}

impl Page<'_> {
    /// The page as HTML.
    pub fn to_html(&self) -> String {
        let mut body = String::new();
        if !self.summary.is_empty() {
            let _ = writeln!(body, "<p>{}</p>", html::escape(self.summary));
        }
        for warning in self.warnings {
            let _ = writeln!(body, "<p class=\"warning\">Warning: {}</p>", html::escape(warning));
        }
        if !self.settings.is_empty() {
            body.push_str("<h2>Settings</h2>\n<table>\n");
            for (name, value) in self.settings {
                let (name, value) = (html::escape(name), html::escape(value));
                let _ = writeln!(body, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
            }
            body.push_str("</table>\n");
        }
        if let Some(file) = self.history {
            let _ = write!(body, "<h2>Training</h2>\n{}", html::picture(file, "Loss and accuracy by epoch"));
        }
        if self.confusion.is_some() || !self.report.is_empty() {
            body.push_str("<h2>Evaluation</h2>\n");
        }
        if let Some(file) = self.confusion {
            body.push_str(&html::picture(file, "Confusion matrix"));
        }
        if !self.report.is_empty() {
            // A browser drops a newline straight after <pre>; the report begins with spaces, so none is lost.
            let _ = writeln!(body, "<pre>{}</pre>", html::escape(self.report));
        }
        if !self.panels.is_empty() || self.gallery.is_some() {
            let _ = write!(body, "<h2>Explanations</h2>\n{}", gallery::figures(self.panels));
        }
        if let Some(file) = self.gallery {
            let _ = writeln!(body, "<p><a href=\"{}\">All panels</a></p>", html::link(file));
        }
        html::page(self.title, &body)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// As [`write_whole`]'s.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, self.to_html().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped_and_in_order() {
        let hostile = "<script>alert('&')</script>";
        let entry = Entry { file: format!("{hostile}.png"), caption: hostile.into(), wrong: false };
        let page = Page {
            title: hostile,
            summary: hostile,
            warnings: &[hostile.into()],
            settings: &[(hostile.into(), hostile.into())],
            history: Some(hostile),
            confusion: Some(hostile),
            report: hostile,
            panels: &[entry],
            gallery: Some("gallery.html"),
        };
        let html = page.to_html();
        assert!(!html.contains("<script") && !html.contains("alert('"));
        assert_eq!(html.matches("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;").count(), 9);
        let at = |what: &str| html.find(what).unwrap_or_else(|| panic!("no {what}"));
        assert!(at("Settings") < at("Training") && at("Training") < at("Evaluation"));
        assert!(at("Evaluation") < at("Explanations") && at("Explanations") < at("All panels"));
    }

    #[test]
    fn the_report_keeps_its_columns_and_what_is_missing_leaves_no_heading() {
        let report = "   precision    recall\n\n 0      0.90\n";
        let html = Page { title: "run", report, ..Page::default() }.to_html();
        assert!(html.contains(&format!("<pre>{report}</pre>")));
        assert!(!html.contains("Settings") && !html.contains("Training") && !html.contains("Explanations"));
        assert!(!html.contains("<img"));
    }

    #[test]
    fn a_page_is_written_where_it_was_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        Page { title: "run", ..Page::default() }.write(&path).unwrap();
        assert!(std::fs::read_to_string(path).unwrap().ends_with("</html>\n"));
    }
}
