from nbws.common import *

app = FastHTML(exts="ws")
rt = app.route


@rt("/login")
def get(session):
    session["person"] = "Bob"
    return "ok"


@app.ws("/ws")
async def ws(msg: str, send, session):
    await send(Div(f"Hello {session.get('person')}" + msg, id="notifications"))


serve()
