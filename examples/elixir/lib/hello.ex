defmodule Hello do
  @moduledoc "A server of Erlang's own library alone, a process for each request."
  use Application

  def start(_type, _args) do
    port = String.to_integer(System.get_env("PORT", "5000"))
    options = [:binary, packet: :http_bin, active: false, reuseaddr: true, ip: {0, 0, 0, 0}, backlog: 128]
    {:ok, listener} = :gen_tcp.listen(port, options)
    Supervisor.start_link([{Task, fn -> accept(listener) end}], strategy: :one_for_one)
  end

  defp accept(listener) do
    {:ok, socket} = :gen_tcp.accept(listener)
    pid = spawn(fn -> receive do: (:go -> answer(socket)) end)
    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, :go)
    accept(listener)
  end

  defp answer(socket) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, :http_eoh} ->
        body = "#{Greeting.for("Elixir")} This is version 1.\n"
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n"
        :gen_tcp.send(socket, "#{head}content-length: #{byte_size(body)}\r\n\r\n#{body}")
        :gen_tcp.close(socket)

      {:ok, _} ->
        answer(socket)

      {:error, _} ->
        :gen_tcp.close(socket)
    end
  end
end
