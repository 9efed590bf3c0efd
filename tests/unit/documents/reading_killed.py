"""A program that reads a PDF into a journal and is killed at any moment; see test_journal.py."""

import sys
import time

from drawn_pages import scripted

from langchain_internvl import ChatInternVL, InternVLLoader


def reply(request):
    time.sleep(0.002)
    return f"page of colour {request.tiles[0][0, 9, 9].tolist()}"


pdf, folder, *model = sys.argv[1:]
llm = ChatInternVL(model=model[0], temperature=0) if model else scripted(reply)[0]
print("begun", flush=True)
for page in InternVLLoader(pdf, llm=llm, resume_dir=folder, skip_blank=False).lazy_load():
    print(page.metadata["page"], flush=True)
print("done", flush=True)
