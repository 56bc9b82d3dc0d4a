"""What the fake box answers: scripts of steps, picked by a word in the question."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Think:
    """Reasoning text, streamed in pieces."""

    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Answer text, streamed in pieces."""

    text: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A place in the queue."""

    position: int
    wait_s: float | None = None


@dataclass(slots=True)
class Hold:
    """The answer waits here until the test calls `release`, or the reader stops it or asks for the answer."""

    event: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.event.set()


@dataclass(frozen=True, slots=True)
class Fail:
    """An error while the answer is written."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Every connection that listens is closed; the answer goes on."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The end, with its reason and the counted tokens."""

    reason: str = "stop"
    prompt: int = 118
    completion: int = 1514
    reasoning: int = 1204
    thinking_end: str | None = "natural"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error instead of an answer."""

    status: int
    code: str
    message: str
    hint: str | None = None
    retry_after_s: int | None = None


Step = Think | Say | Queued | Hold | Fail | Cut | Finish
Script = list[Step] | Refusal

MARKDOWN = """## Fever in adults

A temperature **above 38 °C** is a fever. It is a *sign*, not an illness; see `RR-210` in the ward handbook.

1. Measure twice, ten minutes apart
   - ear or rectal, not under the arm
   - note the time
2. Offer fluids
3. Call the doctor if one of these holds:

| Sign | Limit | What to do |
|:-----|------:|:----------:|
| Temperature | 39.5 °C | call |
| Pulse | 120 /min | call |
| Systolic pressure | 90 mmHg | **call at once** |

> The numbers are the house rule, not a diagnosis.

```python
def celsius(fahrenheit: float) -> float:
    return (fahrenheit - 32) * 5 / 9  # exact
```

The dose follows from \\( d = \\frac{m}{V} \\times 10^2 \\), so

$$ d = \\boxed{42\\ \\text{mg}} $$

\\[
\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}
\\]

It costs $5 and $6. More at <https://example.org/fever> or in [the handbook](https://example.org/handbook).
"""

CHINESE = """### 发热的处理

**注意：**体温超过 **38 °C** 即为发热。发热是*症状*，不是疾病。

1. 间隔十分钟测量两次
   - 耳温或肛温
   - 记录时间
2. 补充水分

| 指标 | 上限 | 处理 |
|:--|--:|:--|
| 体温 | 39.5 °C | 通知医生 |
| 脉搏 | 120 次/分 | **立即通知** |

因此剂量为 \\(\\boxed{42\\,\\text{mg}}\\)。
"""

HOSTILE = """<script>window.pwned = 1</script> <img src=x onerror="window.pwned = 2">

[click](javascript:window.pwned=3) [data](data:text/html,<script>window.pwned=4</script>) [good](https://example.org/)

![pic](https://evil.example/track.png) <a href="javascript:window.pwned=5">x</a> <svg onload="window.pwned=6">

`<b>code</b>` **<i>bold</i>** <style>body{display:none}</style> <form action=https://evil.example><input></form>

```html" onmouseover="window.pwned=7
<script>window.pwned = 8</script>
```

| <img src=x onerror=window.pwned=9> | [a](vbscript:x) |
|---|---|
| [b]( javascript:alert(1)) | <iframe src=javascript:window.pwned=10> |

\\( \\href{javascript:window.pwned=11}{x} \\htmlClass{toast}{y} \\includegraphics{https://evil.example/t.png} \\)

$$ \\def\\x{\\x\\x} \\x $$

<https://user:pw@evil.example/"onclick=window.pwned=12> [ref]: javascript:window.pwned=13
"""

THOUGHTS = (
    "The user asks about fever in adults. I should give the limit first, then what to do on the ward.\n\n"
    "The house rule names three limits: temperature, pulse and pressure. A table is the clearest form.\n\n"
    "Wait, the conversion must be right: (F - 32) * 5 / 9. For 104 that is 40. Yes.\n"
)

LONG = "\n\n".join(
    f"## Part {number}\n\nA paragraph with **bold** words, `code` and \\(x_{{{number}}}^2\\).\n\n"
    + "\n".join(f"- point {number}.{item} with some more words in it" for item in range(8))
    + f"\n\n```python\nvalue_{number} = {number} * 2\n```"
    for number in range(180)
)
"""About 20,000 tokens in 760 blocks."""

SCRIPTS: dict[str, Script] = {
    "fever": [Think(THOUGHTS), Say(MARKDOWN), Finish()],
    "发热": [Think("用户询问发热的处理。先给出界限，再列出步骤。\n表格最清楚。\n"), Say(CHINESE), Finish()],
    "hostile": [Say(HOSTILE), Finish(reasoning=0)],
    "queue": [Queued(3, 22), Queued(1, 6), Say("Now."), Finish()],
    "crash": [Say("The first half of"), Fail("engine_lost", "The model's process ended while it answered.")],
    "rate": Refusal(429, "rate_limit_exceeded", "This key may send 10 requests a minute.", retry_after_s=20),
    "too long": Refusal(
        400,
        "context_length_exceeded",
        "The conversation has 18,204 tokens and 4,096 are reserved for the answer; a seat of this model holds 16,384.",
        hint="Shorten it by 5,916 tokens, or lower max_tokens.",
    ),
}
DEFAULT: Script = [Think("A short thought.\n"), Say("A short answer."), Finish("stop", 20, 12, 6)]
