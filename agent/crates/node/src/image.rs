//! `status.images`.

use crate::ImageOnNode;
use k8s_openapi::api::core::v1::ContainerImage;
use std::cmp::Reverse;

/// Names reported an image.
const NAMES_MAX: usize = 5;

/// The largest images first, at most `max`, each with at most five names, digests before tags.
pub(crate) fn images(images: &[ImageOnNode], max: Option<usize>) -> Vec<ContainerImage> {
    let mut sorted: Vec<&ImageOnNode> = images.iter().collect();
    // Names decide between equal sizes: the order must not change from one report to the next.
    sorted.sort_by_key(|image| (Reverse(image.size_bytes), &image.digests, &image.tags));
    sorted.truncate(max.unwrap_or(usize::MAX));
    sorted
        .into_iter()
        .map(|image| ContainerImage {
            names: Some(image.digests.iter().chain(&image.tags).take(NAMES_MAX).cloned().collect()),
            size_bytes: i64::try_from(image.size_bytes).ok(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_with_five_names() {
        let name = |letter: &str, n: usize| (0..n).map(|i| format!("{letter}{i}")).collect::<Vec<_>>();
        let image = |size_bytes, digests, tags| ImageOnNode { digests, tags, size_bytes };
        let all = [
            image(1, name("small", 1), vec![]),
            image(9, name("b@", 2), name("b:", 4)),
            image(9, name("a@", 1), name("a:", 1)),
        ];
        let got: Vec<_> =
            images(&all, Some(2)).into_iter().map(|i| (i.names.unwrap().join(" "), i.size_bytes)).collect();
        assert_eq!(got, [("a@0 a:0".to_owned(), Some(9)), ("b@0 b@1 b:0 b:1 b:2".to_owned(), Some(9))]);
        assert_eq!(images(&all, None).len(), 3);
        assert!(images(&all, Some(0)).is_empty());
    }
}
