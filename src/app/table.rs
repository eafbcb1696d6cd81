//! How are rows shown to a person?
//!
//! In columns as wide as their widest cell, two spaces apart, two before the first, without lines
//! or colours: the same text is read on a terminal, in a ticket and by `awk`.

/// Lays out a table: the head, then the rows. Each row has as many cells as the head.
#[must_use]
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(head);
    for row in rows {
        text.push_str(&line(std::array::from_fn(|column| row[column].as_str())));
    }
    text
}

/// A duration in the largest unit that still tells something: `340 ms`, `12 s`, `3 min`, `5 h`,
/// `2 d`.
#[must_use]
pub fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["s1", "1", ""], ["long-name", "256", "é"]].map(|row| row.map(str::to_owned));
        let shown = table(["shard", "weight", "why"], &rows);
        let meant = "  shard      weight  why\n  s1         1\n  long-name  256     é\n";
        assert_eq!(shown, meant);
        assert_eq!(table(["a"], &[]), "  a\n");
    }

    #[test]
    fn durations_are_short() {
        let shown = [0, 999, 1000, 119_999, 120_000, 7_200_000, 172_800_000].map(duration);
        assert_eq!(shown, ["0 ms", "999 ms", "1 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
