"""Time spans in words."""


def duration(seconds: float) -> str:
    """A time span in two units at most.

    Example:
        >>> duration(42.4), duration(90), duration(3 * 3600 + 61), duration(5 * 86_400 + 7200)
        ('42 s', '1 min 30 s', '3 h 1 min', '5 d 2 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
