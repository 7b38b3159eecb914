# %% [markdown]
# # Reading e-mails
#
# An agent reads a mail once. The state after it answers everything: six short queries for fields, each from a fork of
# that state, and an answer to the sender. The demo model was trained on such mails; with another model, change the path.

# %%
import sys
import time

import anser

model = anser.load(sys.argv[1] if len(sys.argv) > 1 else None)
print(model)

MAIL = """From: Nora Lind <nora.lind@example.com>
Subject: Order 73920 has not arrived

Hello,

on 3 March I ordered two desk lamps for 48.50 euros. The order number is 73920. They should have been here last week,
but nothing has come. Please tell me when I can expect them.

Kind regards,
Nora Lind"""

# %% [markdown]
# ## Once through the mail
# `feed` hands back the hidden row of the last token, the mail's embedding, and keeps the state.

# %%
begin = time.perf_counter()
session = model.session()
embedding = session.feed(MAIL, hidden="last").hidden
assert embedding is not None
read_ms = 1e3 * (time.perf_counter() - begin)
print(f"read {session.n_tokens} tokens in {read_ms:.0f} ms; embedding {embedding.shape}")

# %% [markdown]
# ## Six queries
# A fork costs a copy of the state, not another reading.

# %%
FIELDS = ["Sender", "Date", "Amount", "Order number", "Subject", "Recipient"]
found = {}
begin = time.perf_counter()
for field in FIELDS:
    with session.fork() as asked:
        text = asked.generate(f"\n\n{field}:", stop="\n", max_tokens=24, temperature=0).text()
    found[field] = text.strip()
queries_ms = 1e3 * (time.perf_counter() - begin)
for field, text in found.items():
    print(f"{field:>13}: {text}")
print(f"six queries in {queries_ms:.0f} ms")

# %% [markdown]
# ## One answer
# The same state, as the beginning of a conversation.

# %%
with session.fork() as asked:
    for piece in asked.generate("\n\nUser: Thank the sender.\n\nAssistant:", stop="\n\n", max_tokens=60, seed=1):
        print(piece, end="", flush=True)
print()
