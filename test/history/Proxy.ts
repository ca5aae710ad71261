/** What stands between one process and the server, can be closed to it, and knows which backends serve it. */
import { Effect, type Scope } from "effect"
import * as net from "node:net"

/** The connection that the bus reads on, or those of the pool. */
export type Line = "bus" | "pool"

export interface Proxy {
  /** How the process reaches the server. */
  readonly url: string
  /** Cuts the connections, and lets no new ones come up until it is opened. */
  readonly close: (line: Line) => void
  readonly open: (line: Line) => void
  /** Lets through what the process says and keeps every answer from it, until the line is closed or opened. */
  readonly mute: (line: Line) => void
  /** The server's processes at the other end. */
  readonly backends: (line: Line) => ReadonlyArray<number>
}

type State = "open" | "closed" | "muted"

interface Pair {
  readonly client: net.Socket
  readonly server: net.Socket
  line: Line
  backend: number | undefined
}

export const make = (upstream: string): Effect.Effect<Proxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const pairs = new Set<Pair>()
    const states: Record<Line, State> = { bus: "open", pool: "open" }
    const listener = yield* Effect.acquireRelease(
      Effect.callback<net.Server>((resume) => {
        const listener = net.createServer((client) => connect(client, upstream, pairs, states))
        listener.listen(0, "127.0.0.1", () => resume(Effect.succeed(listener)))
      }),
      (listener) =>
        Effect.sync(() => {
          listener.close()
          for (const pair of pairs) end(pair)
        })
    )
    const of = (line: Line) => [...pairs].filter((pair) => pair.line === line)
    const become = (state: State) => (line: Line) => {
      states[line] = state
      for (const pair of of(line)) {
        if (state === "closed") end(pair)
        else if (state === "muted") pair.server.pause()
        else pair.server.resume()
      }
    }
    return {
      url: through(upstream, (listener.address() as net.AddressInfo).port),
      close: become("closed"),
      open: become("open"),
      mute: become("muted"),
      backends: (line) => of(line).flatMap(({ backend }) => (backend === undefined ? [] : [backend]))
    }
  })

const connect = (client: net.Socket, upstream: string, pairs: Set<Pair>, states: Record<Line, State>): void => {
  const server = net.connect(addressOf(upstream))
  const pair: Pair = { client, server, line: "pool", backend: undefined }
  pairs.add(pair)
  for (const socket of [client, server]) {
    socket.on("error", () => end(pair))
    socket.on("close", () => {
      pairs.delete(pair)
      end(pair)
    })
  }
  client.setNoDelay(true)
  client.once("data", (start) => {
    if (start.includes(busName)) pair.line = "bus"
    if (states[pair.line] === "closed") end(pair)
    else if (states[pair.line] === "muted") server.pause()
  })
  let head = Buffer.alloc(0)
  const introduced = (data: Buffer) => {
    head = Buffer.concat([head, data])
    pair.backend = backendIn(head)
    if (pair.backend !== undefined || head.length > 4096) server.off("data", introduced)
  }
  server.on("data", introduced)
  client.pipe(server)
  server.pipe(client)
}

const end = ({ client, server }: Pair): void => {
  client.destroy()
  server.destroy()
}

/** As the bus calls itself when it connects. */
const busName = "effect-tiered-cache bus"

/** The process that a server presents itself with: a message `K` among those with which a session begins. */
const backendIn = (data: Buffer): number | undefined => {
  for (let at = 0; at + 9 <= data.length; at += 1 + data.readInt32BE(at + 1)) {
    if (data[at] === "K".charCodeAt(0)) return data.readInt32BE(at + 5)
  }
  return undefined
}

const addressOf = (url: string): net.NetConnectOpts => {
  const { hostname, port, searchParams } = new URL(url)
  const host = searchParams.get("host") ?? decodeURIComponent(hostname)
  const at = Number(searchParams.get("port") ?? (port || 5432))
  return host.startsWith("/") ? { path: `${host}/.s.PGSQL.${at}` } : { host: host || "localhost", port: at }
}

const through = (upstream: string, port: number): string => {
  const url = new URL(upstream)
  url.hostname = "127.0.0.1"
  url.port = String(port)
  url.searchParams.delete("host")
  url.searchParams.delete("port")
  url.search = url.search.replaceAll("+", "%20")
  return url.href
}
