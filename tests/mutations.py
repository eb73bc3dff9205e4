"""Ways in which a file goes bad: a Hypothesis strategy for mutated copies of it."""

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, content: bytes, focus: int | None = None) -> bytes:
    """``content`` with one to four changes; half of them within the first ``focus`` bytes, where headers are."""
    result = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        end = min(focus, len(result)) if focus and draw(st.booleans()) else len(result)
        place = draw(st.integers(0, max(end - 1, 0)))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["flip", "overwrite", "delete", "insert", "truncate", "repeat"]))
        if kind == "flip" and result:
            result[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "overwrite":
            result[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "delete":
            del result[place : place + length]
        elif kind == "insert":
            result[place:place] = draw(st.binary(min_size=1, max_size=length))
        elif kind == "truncate":
            del result[place:]
        else:
            result[place:place] = result[place : place + length]
    return bytes(result)
