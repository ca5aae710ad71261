/**
 * What goes to PostgreSQL and back, counted: a proxy that reads the messages it hands
 * on. A statement is an Execute or a Query. A round trip begins when a client that
 * waits for nothing on a connection sends something on it: what is sent together, or
 * before the answer is there, is one trip.
 */
import * as net from "node:net"
import type { Address } from "./Servers.ts"

export interface Counted {
  readonly statements: number
  readonly roundTrips: number
}

export interface Wire {
  readonly url: string
  readonly address: Address
  readonly counted: () => Counted
  /** Whether some answer is still to come. */
  readonly isBusy: () => boolean
  readonly close: () => void
}

export const make = async (server: Address): Promise<Wire> => {
  const count = { statements: 0, roundTrips: 0 }
  const connections = new Set<Connection>()
  const sockets = new Set<net.Socket>()
  const listener = net.createServer((client) => {
    const upstream = net.connect({ path: `${server.host}/.s.PGSQL.${server.port}` })
    const connection: Connection = { awaited: 0 }
    connections.add(connection)
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on("error", () => {})
      socket.on("close", () => {
        connections.delete(connection)
        client.destroy()
        upstream.destroy()
      })
    }
    const sent = messages(true)
    const received = messages(false)
    client.on("data", (data: Buffer) => {
      const wasIdle = connection.awaited === 0
      for (const type of sent(data)) {
        if (type === "E" || type === "Q") count.statements++
        if (type === "S" || type === "Q") connection.awaited++
      }
      if (wasIdle && connection.awaited > 0) count.roundTrips++
      upstream.write(data)
    })
    upstream.on("data", (data: Buffer) => {
      for (const type of received(data)) if (type === "Z" && connection.awaited > 0) connection.awaited--
      client.write(data)
    })
  })
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve))
  const address = { ...server, host: "127.0.0.1", port: (listener.address() as net.AddressInfo).port }
  return {
    url: `postgresql://${address.user}@${address.host}:${address.port}/${address.database}`,
    address,
    counted: () => ({ ...count }),
    isBusy: () => [...connections].some(({ awaited }) => awaited > 0),
    close: () => {
      listener.close()
      for (const socket of sockets) socket.destroy()
    }
  }
}

interface Connection {
  /** Answers that the client waits for. */
  awaited: number
}

/** The types of the messages that end in each piece of a stream. The first one of a client has none. */
const messages = (isClient: boolean): ((data: Buffer) => ReadonlyArray<string>) => {
  let rest: Buffer = Buffer.alloc(0)
  let isFirst = isClient
  return (data) => {
    rest = rest.length === 0 ? data : Buffer.concat([rest, data])
    const types: Array<string> = []
    for (;;) {
      const head = isFirst ? 0 : 1
      if (rest.length < head + 4) return types
      const length = head + rest.readInt32BE(head)
      if (rest.length < length) return types
      if (!isFirst) types.push(String.fromCharCode(rest[0]!))
      isFirst = false
      rest = rest.subarray(length)
    }
  }
}
