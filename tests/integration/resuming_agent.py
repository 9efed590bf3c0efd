"""An agent in a process of its own, for `test_resuming.py` to kill: `MODEL DATABASE [PICTURE]`.

With a picture it begins, and hangs before its second tool; without one it goes on.
"""

import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from support_agents import Driver

from langchain_internvl import ChatInternVL, InternVLToolkit, image_block
from langchain_internvl.backends.scripted import ScriptedBackend


def main() -> None:
    model, database, *picture = sys.argv[1:]

    def choose(results):
        if not results:
            return "ground", {"image": "image:1", "phrase": "sign"}
        if len(results) == 1:
            if picture:
                print("between tools", flush=True)
                time.sleep(600)
            region = re.search(r"region ([\d, ]+)", results[0].text).group(1)
            return "read_text", {"image": "image:1", "region": region}
        return f"It says {results[1].text}"

    scripted = model != "nano"
    backend = ScriptedBackend(
        lambda request: "OPEN" if b"Read all" in text(request) else "[[250, 250, 750, 750]]"
    )
    settings = {"backend": backend} if scripted else {}
    llm = ChatInternVL(model=model, temperature=0, **settings)

    def text(request):
        return llm.get_text(request.prompt_ids).encode()

    with SqliteSaver.from_conn_string(database) as saver:
        tools = InternVLToolkit(llm=llm).get_tools()
        agent = create_agent(Driver(choose=choose), tools=tools, checkpointer=saver)
        question = {"type": "text", "text": "What does the sign say?"}
        start = (
            {"messages": [HumanMessage([image_block(picture[0]), question])]} if picture else None
        )
        state = agent.invoke(start, {"configurable": {"thread_id": "1"}})
        print(state["messages"][-1].text, flush=True)


if __name__ == "__main__":
    main()
