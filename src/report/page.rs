//! Figures, tables and pictures as one HTML page. It needs no other file and loads nothing from the network.

use std::fmt::Write;

use super::svg::escape;
use crate::data::{ImageSet, png};
use crate::error::Result;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.2rem;margin:2.5rem 0 .5rem}\
figure{margin:1rem 0;overflow-x:auto}figure svg{display:block;width:100%;max-width:44rem;height:auto}\
figcaption{opacity:.8;max-width:44rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
pre{white-space:pre-wrap;overflow-wrap:anywhere}\
.wide{overflow-x:auto}th,td{padding:.25rem .8rem .25rem 0;text-align:left;border-bottom:1px solid #8886}\
.pictures{display:grid;grid-template-columns:max-content repeat(8,minmax(2rem,5rem));gap:.3rem;align-items:center}\
.pictures img{width:100%;image-rendering:pixelated;display:block}.pictures span{padding-right:.5rem}\
@media(max-width:40rem){figure svg{min-width:30rem}th,td{padding-right:.5rem}\
.pictures{grid-template-columns:repeat(4,1fr)}.pictures span{grid-column:1/-1}.pictures span:empty,.pictures .later{display:none}}\
@media print{h2{break-after:avoid}figure,tr{break-inside:avoid}}";

/// Pictures in a row; from the fifth on they are left out on a narrow screen.
const NARROW: usize = 4;

/// A page under construction.
pub struct Page {
    body: String,
    title: String,
}

impl Page {
    /// A page with a heading and a line under it.
    pub fn new(title: &str, line: &str) -> Self {
        let title = escape(title);
        Self { body: format!("<h1>{title}</h1>\n<p>{}</p>\n", prose(line)), title }
    }

    /// Sentences, one below the other.
    pub fn list<T: AsRef<str>>(&mut self, sentences: &[T]) {
        let items: String =
            sentences.iter().map(|sentence| format!("<li>{}</li>\n", prose(sentence.as_ref()))).collect();
        if !items.is_empty() {
            let _ = write!(self.body, "<ul>\n{items}</ul>\n");
        }
    }

    /// A heading.
    pub fn heading(&mut self, words: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escape(words));
    }

    /// Text that is copied as it is.
    pub fn code(&mut self, text: &str) {
        let _ = writeln!(self.body, "<pre>{}</pre>", escape(text));
    }

    /// A figure with its caption.
    pub fn figure(&mut self, svg: &str, caption: &str) {
        let caption = escape(caption);
        let _ = writeln!(self.body, "<figure>{svg}<figcaption>{caption}</figcaption></figure>");
    }

    /// A table; the first row is its head.
    pub fn table(&mut self, rows: &[Vec<String>], caption: &str) {
        let plain = |row: &Vec<String>| row.iter().map(|cell| (cell.clone(), false)).collect();
        self.marked_table(&rows.iter().map(plain).collect::<Vec<_>>(), caption);
    }

    /// As [`Page::table`], with the cells in bold that are marked.
    pub fn marked_table<T: AsRef<str>>(&mut self, rows: &[Vec<(T, bool)>], caption: &str) {
        self.body.push_str("<div class=\"wide\"><table>\n");
        for (number, row) in rows.iter().enumerate() {
            let tag = if number == 0 { "th" } else { "td" };
            let cell = |(cell, bold): &(T, bool)| {
                let (open, close) = if *bold { ("<b>", "</b>") } else { ("", "") };
                format!("<{tag}>{open}{}{close}</{tag}>", escape(cell.as_ref()))
            };
            let cells: String = row.iter().map(cell).collect();
            let _ = writeln!(self.body, "<tr>{cells}</tr>");
        }
        let _ = writeln!(self.body, "</table></div>\n<p>{}</p>", escape(caption));
    }

    /// Rows of the same images in several forms, at most eight, each with a name.
    pub fn pictures(&mut self, rows: &[(&str, &ImageSet)], caption: &str) -> Result<()> {
        self.body.push_str("<figure><div class=\"pictures\">\n");
        for (name, images) in rows {
            let _ = writeln!(self.body, "<span>{}</span>", escape(name));
            for image in 0..8 {
                let later = if image < NARROW { "" } else { " class=\"later\"" };
                if image < images.len() {
                    let name = escape(&format!("{name}, {}", images.names[image]));
                    let png = base64(&png(images, image)?);
                    let source = format!("data:image/png;base64,{png}");
                    let _ = writeln!(self.body, "<img{later} alt=\"{name}\" src=\"{source}\"/>");
                } else {
                    let _ = writeln!(self.body, "<span{later}></span>");
                }
            }
        }
        let _ = writeln!(self.body, "</div><figcaption>{}</figcaption></figure>", escape(caption));
        Ok(())
    }

    /// The whole page; `data` is JSON that is embedded for programs.
    pub fn finish(self, data: &str) -> String {
        let Self { body, title } = self;
        // The only sequence that could end the script element early.
        let data = data.replace("</", "<\\/");
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\
             <script type=\"application/json\" id=\"data\">{data}</script>\n</body>\n</html>\n"
        )
    }
}

/// A sentence, with names in code where it has them between backticks.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.fold(String::new(), |mut prose, (number, part)| {
        let part = escape(part);
        prose.push_str(&if number % 2 == 1 { format!("<code>{part}</code>") } else { part });
        prose
    })
}

/// Bytes as text (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[255, 254, 253, 0]), "//79AA==");
    }

    #[test]
    fn what_is_shown_cannot_break_the_page() {
        let mut page = Page::new("<b>", "a & b");
        page.list(&["`<c>` lost", "<d>"]);
        page.table(&[vec!["<i>".into()], vec!["1".into()]], "");
        let page = page.finish("{\"name\":\"</script>\"}");
        assert!(page.contains("<li><code>&lt;c&gt;</code> lost</li>") && !page.contains("<d>"));
        assert!(!page.contains("<b>") && !page.contains("<i>") && !page.contains("a & b"));
        assert_eq!(page.matches("</script>").count(), 1);
    }
}
