"""Labels stay in the frame and off each other, points and lines, where there is room."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from leaderboard.labels import FONT_SIZE, place_labels

FRAME = (800, 400)


def spans(label, center, place):
    width = 0.58 * FONT_SIZE * len(label)
    left = center[0] + place.dx - (0 if place.align == "left" else width)
    return left, left + width, center[1] + place.dy - FONT_SIZE / 2, center[1] + place.dy + FONT_SIZE / 2


@given(st.tuples(st.floats(0, 800), st.floats(0, 400)))
def test_a_label_alone_stays_in_the_frame_and_off_its_point(center):
    (place,) = place_labels(["a label"], [center], FRAME)
    left, right, top, bottom = spans("a label", center, place)
    assert left >= 0
    assert right <= FRAME[0]
    assert top >= 0
    assert bottom <= FRAME[1]
    assert not (left < center[0] < right and top < center[1] < bottom)


def test_labels_of_a_cluster_do_not_cover_each_other():
    centers = [(400, 200), (405, 203), (398, 206), (403, 197)]
    boxes = [
        spans("a label", c, p) for c, p in zip(centers, place_labels(["a label"] * 4, centers, FRAME), strict=True)
    ]
    for one, other in combinations(boxes, 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]


def test_a_label_stands_beside_the_line_through_its_point():
    rising = [(100, 300), (200, 200), (300, 100)]
    (free,) = place_labels(["12"], rising[1:2], FRAME)
    (beside,) = place_labels(["12"], rising[1:2], FRAME, rising)
    assert (free.align, free.dy < 0) == ("left", True)
    assert (beside.align == "left") == (beside.dy > 0)
