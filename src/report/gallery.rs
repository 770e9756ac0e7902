//! Many panels at once: as a page of links and as one tall contact sheet.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use image::RgbImage;

use super::canvas::{Canvas, LINE};
use super::{html, write_whole};

/// A saved panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The panel's file, relative to the page's folder.
    pub file: String,
    /// Plain text under it, such as the picture's own file name and the verdict.
    pub caption: String,
    /// The prediction is wrong: the caption is marked.
    pub wrong: bool,
}

/// The gallery as HTML: a heading, an introduction in plain text, then the panels in order.
pub fn gallery(title: &str, introduction: &str, entries: &[Entry]) -> String {
    let wrong = entries.iter().filter(|e| e.wrong).count();
    let mut body = String::new();
    if !introduction.is_empty() {
        let _ = writeln!(body, "<p>{}</p>", html::escape(introduction));
    }
    let _ = writeln!(body, "<p>{} pictures, {wrong} predicted wrong.</p>", entries.len());
    body.push_str(&figures(entries));
    html::page(title, &body)
}

/// The panels as figures with captions.
pub fn figures(entries: &[Entry]) -> String {
    let mut out = String::new();
    for Entry { file, caption, wrong } in entries {
        let (class, mark) = if *wrong { (" class=\"wrong\"", "✗ ") } else { ("", "") };
        let (picture, caption) = (html::picture(file, caption), html::escape(caption));
        let _ = writeln!(out, "<figure>\n{picture}<figcaption{class}>{mark}{caption}</figcaption>\n</figure>");
    }
    out
}

/// Writes the gallery's page.
///
/// # Errors
/// As [`write_whole`]'s.
pub fn write(path: &Path, title: &str, introduction: &str, entries: &[Entry]) -> Result<()> {
    write_whole(path, gallery(title, introduction, entries).as_bytes())
}

/// Up to `most` panels, one under the other with a line between, as wide as the widest.
pub fn contact_sheet(panels: &[RgbImage], most: usize) -> RgbImage {
    let panels = &panels[..panels.len().min(most)];
    let width = panels.iter().map(RgbImage::width).max().unwrap_or(1);
    // The line takes one row between two panels.
    let height: u32 = panels.iter().map(|p| p.height() + 1).sum();
    let mut canvas = Canvas::new(width, height.saturating_sub(1));
    let mut y = 0;
    for panel in panels {
        if y > 0 {
            canvas.fill(0, y - 1, i64::from(width), 1, LINE);
        }
        canvas.paste(panel, 0, y);
        y += i64::from(panel.height()) + 1;
    }
    canvas.into_image()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn the_page_escapes_names_marks_mistakes_and_runs_nothing() {
        let entry = |caption: &str, wrong| Entry { file: "panels/a b.png".into(), caption: caption.into(), wrong };
        let page = gallery("Grad-CAM <run 1>", "", &[entry("<img src=x onerror=alert(1)>", true), entry("fine", false)]);
        assert!(page.contains("Grad-CAM &lt;run 1&gt;") && page.contains("&lt;img src=x onerror=alert(1)&gt;"));
        assert!(!page.contains("<img src=x") && !page.contains("<script"));
        assert_eq!(page.matches("src=\"panels/a%20b.png\"").count(), 2);
        assert_eq!(page.matches("class=\"wrong\"").count(), 1);
        assert!(page.contains("2 pictures, 1 predicted wrong."));
    }

    #[test]
    fn the_sheet_stacks_the_first_panels_with_lines_between() {
        let panel = |w, h, c| RgbImage::from_pixel(w, h, Rgb([c, 0, 0]));
        let sheet = contact_sheet(&[panel(4, 3, 1), panel(6, 2, 2), panel(9, 9, 3)], 2);
        assert_eq!(sheet.dimensions(), (6, 6));
        assert_eq!((sheet.get_pixel(0, 2).0[0], sheet.get_pixel(0, 4).0[0]), (1, 2));
        assert_eq!(*sheet.get_pixel(5, 3), LINE);
        assert_eq!(sheet.get_pixel(5, 0).0, [255; 3]);
        assert_eq!(contact_sheet(&[], 5).dimensions(), (1, 1));
    }
}
