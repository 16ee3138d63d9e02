# A server of Ruby's standard library alone: this app needs no gem that has to be fetched.
require "greeting"
require "socket"

$stdout.sync = true
server = TCPServer.new("0.0.0.0", Integer(ENV.fetch("PORT", "5000")))
trap("TERM") { exit }
puts "Listening"

loop do
  Thread.new(server.accept) do |client|
    nil until ["\r\n", nil].include?(client.gets)
    body = "#{Greeting.for("Ruby")} This is version 1.\n"
    client.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n" \
                 "Content-Length: #{body.bytesize}\r\n\r\n#{body}")
  ensure
    client.close
  end
end
