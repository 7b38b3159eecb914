# %% [markdown]
# # Semantic search over 200 texts
#
# Texts are embedded in one call; a query finds the nearest of them; two principal components make a map. The demo model
# is small: it tells stories, sums and mails apart, and what they are about roughly. `python semantic_search.py MODEL`
# takes another model. The plot needs matplotlib.

# %%
import sys
import time
from pathlib import Path

import numpy as np

import anser

model = anser.load(sys.argv[1] if len(sys.argv) > 1 else None)

# %% [markdown]
# ## 200 texts of four kinds

# %%
ANIMALS = ["fox", "rabbit", "bear", "owl", "frog", "duck", "mouse", "cat", "dog", "bird"]
PLACES = ["in the wood", "by the river", "on the hill", "near the pond", "in the garden"]
stories = [f"Once upon a time, there was a {animal} who lived {place}." for animal in ANIMALS for place in PLACES]
sums = [f"User: What is {a} + {b}?\n\nAssistant: {a} + {b} = {a + b}." for a in range(11, 21) for b in range(30, 35)]
orders = [f"Hello,\n\nyour order {41000 + 37 * i} was sent on {1 + i % 28} May.\n\nKind regards" for i in range(50)]
bills = [f"Dear customer,\n\nplease pay {20 + 7 * i}.50 euros by {1 + i % 28} June.\n\nBest wishes" for i in range(50)]
kinds = {"story": stories, "sum": sums, "order": orders, "bill": bills}
texts = [text for group in kinds.values() for text in group]
labels = np.repeat(list(kinds), 50)
assert len(texts) == 200

begin = time.perf_counter()
rows = model.embed(texts, pooling="mean", normalize=True)
print(f"{len(texts)} texts, {rows.shape[1]} numbers each, in {time.perf_counter() - begin:.2f} s")

# %% [markdown]
# ## Search
# Rows have length 1: a product is the cosine. The mean of all rows says nothing about a text, so it is taken out.

# %%
center = rows.mean(axis=0)
centered = rows - center
centered /= np.linalg.norm(centered, axis=1, keepdims=True)


def search(query: str, n: int = 3) -> list[int]:
    """Indices of the nearest texts."""
    row = model.embed([query], pooling="mean", normalize=True)[0] - center
    return [int(i) for i in np.argsort(-(centered @ row))[:n]]


QUERIES = {
    "A little frog sat by the water.": "story",
    "User: What is 18 + 31?\n\nAssistant:": "sum",
    "Hello,\n\nyour order 50011 was sent on 3 April.": "order",
    "Dear customer,\n\nplease pay 99.50 euros by 2 July.": "bill",
}
n_right = 0
for query, kind in QUERIES.items():
    nearest = search(query)
    n_right += labels[nearest[0]] == kind
    print(f"{query!r}")
    for i in nearest:
        print(f"    {labels[i]:>6}  {texts[i]!r}")
print(f"{n_right} of {len(QUERIES)} found the right kind first")
assert n_right >= 3

# %% [markdown]
# ## A map

# %%
_, _, directions = np.linalg.svd(centered, full_matrices=False)
points = centered @ directions[:2].T
out = Path(sys.argv[2] if len(sys.argv) > 2 else "semantic_search.png")
try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
except ImportError:
    print("no matplotlib: no plot")
else:
    figure, axes = plt.subplots(figsize=(7, 5))
    for kind in kinds:
        axes.scatter(points[labels == kind, 0], points[labels == kind, 1], label=kind, s=14)
    axes.legend()
    axes.set(title="200 texts, two principal components", xlabel="first", ylabel="second")
    figure.savefig(out, dpi=120)
    print("map:", out)
