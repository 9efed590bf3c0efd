"""`ChatInternVL`, the LangChain chat model. Only this room knows `BaseChatModel`."""

from langchain_internvl.chat_models.chat import ChatInternVL

__all__ = ["ChatInternVL"]
