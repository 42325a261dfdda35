export declare const Command: Readonly<{ SEND: 1; ACK: 2; REC: 3; REL: 4; COM: 5 }>;

export type QoS = 0 | 1 | 2;
export type State = "connecting" | "open" | "waiting" | "closed";
export type Content = string | Uint8Array;

export interface Packet {
  command: 1 | 2 | 3 | 4 | 5;
  name: string;
  dup: boolean;
  qos: number;
  type: number;
  id: number;
  payload: Uint8Array;
}

export interface Message {
  type: number;
  payload: Uint8Array;
  text: string;
  qos: QoS;
}

export interface Options {
  url: string;
  deviceId: string;
  clientOs?: string;
  query?: Record<string, string>;
  retryAfter?: number;
  tries?: number;
  queueMax?: number;
  reconnectMin?: number;
  reconnectMax?: number;
}

export declare class RainbowError extends Error {
  readonly code: "no_answer" | "connection_lost" | "queue_full" | "closed";
}

export declare class RainbowClient {
  constructor(options: Options);
  readonly state: State;
  onmessage: (message: Message) => Content | null | undefined | void | Promise<Content | null | undefined | void>;
  onstate: (state: State, waitMs?: number) => void;
  onpacket: (leaving: boolean, packet: Packet, bytes: Uint8Array) => void;
  connect(): void;
  close(): void;
  send(type: number, content: Content, qos?: QoS): Promise<Uint8Array>;
}

export declare function encode(packet: Partial<Packet> & { command: Packet["command"] }): Uint8Array;
export declare function decode(bytes: Uint8Array): Packet | null;
