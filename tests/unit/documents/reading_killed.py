"""A program that reads a PDF into a journal and is killed at any moment; see test_journal.py."""

import sys
import time

from drawn_pages import scripted

from langchain_internvl import InternVLLoader


def reply(request):
    time.sleep(0.002)
    return f"page of colour {request.tiles[0][0, 9, 9].tolist()}"


llm, backend = scripted(reply)
pdf, folder = sys.argv[1:]
print("begun", flush=True)
for page in InternVLLoader(pdf, llm=llm, resume_dir=folder, skip_blank=False).lazy_load():
    print(page.metadata["page"], flush=True)
print("done", flush=True)
